"""The lines of docs/doctor.md that fetch weights: copied into a shell, they fetch the profile's."""

import re
import shlex
from fnmatch import fnmatch

import pytest
from helpers.hub.catalogue import named, write_all
from helpers.hub.layout import snapshot

from abo_vqa.commands.doctor.weights import SIZES
from abo_vqa.core.yaml_files import read_yaml
from abo_vqa.models.hub import WEIGHT_FILES
from tests.support import ROOT

PROFILE = read_yaml(ROOT / "conf/profiles/abo.yaml")
OTHERS = ("tf_model.h5", "flax_model.msgpack", "rust_model.ot", "onnx/model.onnx")


def fetched():
    """What each line fetches: {(id, revision): patterns}."""
    text = (ROOT / "docs/doctor.md").read_text(encoding="utf-8").replace("\\\n", " ")
    found = {}
    for line in re.findall(r"^hf download (.*)$", text, re.MULTILINE):
        path, option, revision, *rest = shlex.split(line)
        assert option == "--revision"
        assert set(rest[::2]) == {"--include"}  # a second pattern behind one would be a file's name
        found[path, revision] = rest[1::2]
    return found


def test_the_ids_and_revisions_are_the_profiles():
    wanted = [*PROFILE["models"].values(), *PROFILE["scorers"].values()]
    assert list(fetched()) == [(source["path"], source["revision"]) for source in wanted]
    assert {path for path, _ in fetched()} == set(SIZES)


def test_one_kind_of_weights_and_all_other_files_of_it(tmp_path):
    """Held against the stand-ins, with which the loaders are known to work."""
    lines = fetched()
    write_all(tmp_path, named(PROFILE).values(), real=False)
    for path, revision in named(PROFILE).values():
        patterns = lines[path, revision]
        for file in snapshot(tmp_path, path, revision).iterdir():
            assert any(fnmatch(file.name, p) for p in patterns), (path, file.name)


@pytest.mark.parametrize("patterns", fetched().values(), ids=[path for path, _ in fetched()])
def test_no_weights_twice(patterns):
    weights = [name for name in (*WEIGHT_FILES, *OTHERS) if not name.endswith(".json")]
    assert len([n for n in weights if any(fnmatch(n, p) for p in patterns)]) == 1


def test_the_other_page_leads_there():
    link = "doctor.md#weights-without-a-network"
    assert link in (ROOT / "docs/real-abo.md").read_text(encoding="utf-8")
    page = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
    assert "## Weights without a network" in page
    assert "data/raw/abo" in page
