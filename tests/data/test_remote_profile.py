"""A profile whose `data.raw` is a URL: `fetch` pins it, DVC compares the pin, stages read it."""

import shutil
import subprocess
import tarfile
import uuid
from pathlib import Path

import pytest
import yaml

from abo_vqa.cli import main
from abo_vqa.commands.doctor.files import archives
from abo_vqa.commands.doctor.findings import Checkout, examine
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import BALANCED, FUNNEL, TYPES, embeddings_of
from abo_vqa.core.vector_files import VECTORS_FILE
from abo_vqa.data.archive import IMAGES_TAR, open_archive
from abo_vqa.data.object_errors import ObjectChangedError
from abo_vqa.stages import curate, embed
from tests.support import ROOT, workspaces
from tests.support.stages import run_stage

PIN = Path("data/raw/sample/remote.json")


def set_raw(place, **changes):
    """Set `data.raw` of the current folder's profile."""
    file = Path("conf/profiles/sample.yaml")
    settings = yaml.safe_load(file.read_text())
    settings["data"] |= {"raw": place, **changes}
    file.write_text(yaml.safe_dump(settings))


@pytest.fixture
def profile(remote_shop, tmp_path):
    """The remote shop, in a project whose profile `sample` names its URL."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    workspaces.copy_params(tmp_path)
    set_raw(remote_shop.url + "/")
    return remote_shop


def test_fetch_pins_both_objects_and_copies_nothing(profile, capsys):
    assert main(["fetch", "--profile", "sample"]) == 0
    printed = capsys.readouterr().out
    assert f"{profile.url}/{IMAGES_TAR}: " in printed
    assert "41 files" in printed
    assert "`dvc add data/raw/sample`" in printed
    assert [file.name for file in PIN.parent.iterdir()] == ["remote.json"]
    size = (profile.local / IMAGES_TAR).stat().st_size
    pin = read_json(PIN)
    assert pin["url"] == profile.url
    assert pin["objects"][IMAGES_TAR]["size"] == size
    content = PIN.read_bytes()
    assert main(["fetch", "--profile", "sample"]) == 0
    assert PIN.read_bytes() == content  # the same objects: no stage is stale


def test_the_pin_stands_for_the_archives(profile):
    assert main(["fetch", "--profile", "sample"]) == 0
    config = load_config()
    assert (config.data.raw, config.data.url) == (PIN.parent, profile.url)
    with open_archive(config.data.raw) as remote, open_archive(profile.local) as local:
        assert remote.raw == PIN.parent
        paths = local.image_paths()
        assert [remote.read(path) for path in paths] == [local.read(path) for path in paths]


def test_another_version_is_refused_until_it_is_pinned(profile):
    assert main(["fetch", "--profile", "sample"]) == 0
    before = PIN.read_bytes()
    profile.replace(IMAGES_TAR, (profile.local / IMAGES_TAR).read_bytes() + bytes(512))
    with pytest.raises(ObjectChangedError, match=r"isn't the object that remote.json pins"):
        open_archive(load_config().data.raw)
    assert main(["fetch", "--profile", "sample"]) == 0
    assert PIN.read_bytes() != before  # DVC finds the stages stale
    with open_archive(load_config().data.raw) as archive:
        assert len(archive.image_paths()) == 40


def test_dvc_finds_the_stages_stale(profile, tmp_path):
    stage = {"cmd": "true", "deps": ["data/raw/sample"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"curate": stage}}))
    subprocess.run(["dvc", "init", "-q", "--no-scm"], check=True)

    def status():
        return subprocess.run(["dvc", "status"], capture_output=True, text=True, check=True).stdout

    assert main(["fetch", "--profile", "sample"]) == 0
    subprocess.run(["dvc", "repro", "-q"], check=True)
    assert main(["fetch", "--profile", "sample"]) == 0
    assert "up to date" in status()
    profile.replace(IMAGES_TAR, (profile.local / IMAGES_TAR).read_bytes() + bytes(512))
    assert main(["fetch", "--profile", "sample"]) == 0
    assert "modified:" in status()


def test_without_a_pin_the_message_says_how_to_make_one(profile):
    with pytest.raises(UserError, match="`abo-vqa fetch --profile sample`"):
        open_archive(load_config().data.raw)


def test_a_pin_of_another_url(profile):
    assert main(["fetch", "--profile", "sample"]) == 0
    set_raw("s3://elsewhere/shop")
    with pytest.raises(UserError, match=r"found s3://elsewhere/shop, but .* pins s3://bucket"):
        load_config()


def test_a_slash_that_is_missing_is_named(profile, capsys):
    set_raw("s3:/bucket/abo")
    with pytest.raises(UserError, match=r"data\.raw: .*a URL has two slashes, s3://bucket/abo"):
        load_config()
    assert main(["fetch", "--profile", "sample"]) == 2
    assert "two slashes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["https://jane:pw-not-seen@h/shop", "https://h/shop?sig=pw-not-seen"]
)
def test_a_url_with_a_secret_is_refused(profile, capsys, url):
    set_raw(url)
    with pytest.raises(UserError, match=r"data\.raw: found a URL with") as refusal:
        load_config()
    assert "pw-not-seen" not in str(refusal.value)
    assert main(["fetch", "--profile", "sample"]) == 2
    assert "pw-not-seen" not in capsys.readouterr().err


def test_a_damaged_pin(profile):
    PIN.parent.mkdir(parents=True)
    PIN.write_text("{}")
    with pytest.raises(UserError, match="isn't what `abo-vqa fetch` writes"):
        open_archive(PIN.parent)


def test_there_is_no_other_folder_for_them(profile, capsys):
    assert main(["fetch", "--profile", "sample", "--out", "elsewhere"]) == 2
    assert "Without --out, the command pins them" in capsys.readouterr().err


def test_the_doctor_names_the_pin(profile, tmp_path):
    subprocess.run(["dvc", "init", "-q", "--no-scm"], check=True)
    checkout = Checkout(tmp_path, load_config())
    [missing] = examine("archives", archives, checkout)
    assert missing.advice == "`abo-vqa fetch --profile sample` pins those on object storage."
    assert main(["fetch", "--profile", "sample"]) == 0
    whole, pinned = examine("archives", archives, checkout)
    assert f"{profile.url}, pinned in data/raw/sample/remote.json: abo-listings.tar" in whole.found
    assert "40 images" in whole.found
    assert pinned.advice.startswith("`dvc add data/raw/sample`")


def written(stage, *files):
    """Run a stage; return the bytes of what it writes."""
    run_stage(stage, load_config())
    return [file.read_bytes() for file in files]


def on_store_and_disk(store, local, stage, files):
    """What a stage writes with the archives in a folder, and with the same ones on the store."""
    raw = PIN.parent
    shutil.rmtree(raw, ignore_errors=True)
    shutil.copytree(local, raw)
    set_raw(str(raw))
    from_disk = written(stage, *files)
    for leftover in (raw, Path(".cache"), files[-1].parent if stage is embed else None):
        if leftover is not None:  # what `embed` would continue
            shutil.rmtree(leftover, ignore_errors=True)
    set_raw(store.upload(local, f"{stage.__name__.rpartition('.')[2]}-{uuid.uuid4().hex[:8]}", "a"))
    assert main(["fetch", "--profile", "sample"]) == 0
    assert [file.name for file in raw.iterdir()] == ["remote.json"]
    return from_disk, written(stage, *files)


def test_curate_writes_the_same_bytes(object_store, profile):
    files = (BALANCED, TYPES, FUNNEL)
    from_disk, from_store = on_store_and_disk(object_store, profile.local, curate, files)
    assert from_store == from_disk


def test_embed_writes_the_same_bytes(object_store, remote_shop, tmp_path, monkeypatch):
    """Of images one of which can't be read."""
    monkeypatch.chdir(workspaces.workspace(tmp_path / "project", "blip", images=9))
    local = shutil.copytree(remote_shop.local, tmp_path / "packed")
    with tarfile.open(local / IMAGES_TAR, "w") as tar:
        tar.add("data/raw/sample/images", "images")
    files = (embeddings_of("blip") / VECTORS_FILE,)
    from_disk, from_store = on_store_and_disk(object_store, local, embed, files)
    assert from_store == from_disk
