"""The commands of the documentation that need the pipeline's results, in a clone that has them."""

import csv
import re
import subprocess

import pytest
from helpers import scratch

from tests.support.page_runs import clone_with_own_files, run_block
from tests.support.pages import PAGES, blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
BLOCKS = [block for page in PAGES for block in blocks(page) if "run: slow" in block.markers]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A clone after `dvc repro`, with its results committed."""
    folder = clone_with_own_files(tmp_path_factory.mktemp("finished"))
    scratch.run(
        folder, "dvc", "pull", "-q", "--remote", "sample", "data/raw/sample", "models/sample"
    )
    (folder / "data/raw/abo").mkdir()
    scratch.run(folder, "dvc", "commit", "-q", "--force", "data.dvc")
    scratch.run(folder, "dvc", "repro")
    scratch.commit(folder)
    return folder


@pytest.fixture
def restored(finished):
    """The clone as it was committed, whatever the page before has done to it."""
    yield finished
    for command in (["git", "checkout", "-q", "--force", "HEAD"], ["dvc", "checkout", "-q", "-f"]):
        subprocess.run(command, cwd=finished, env=scratch.environment(), check=True)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.place for block in BLOCKS])
def test_the_block_runs(block, restored):
    run_block(block, restored)


SCHEMAS = [
    (page.name, file, re.findall(r"^\| `([^`]+)` \|", rows, re.MULTILINE))
    for page in PAGES
    if page.parent.name == "stages"
    for file, rows in re.findall(
        r"^### `(\S+)`\n\n\| column .*\n.*\n((?:\|.*\n)+)", page.read_text(encoding="utf-8"), re.M
    )
]


@pytest.mark.parametrize(("page", "file", "columns"), SCHEMAS, ids=[f for _, f, _ in SCHEMAS])
def test_the_columns_are_those_of_the_file(page, file, columns, restored):
    with (restored / file).open(newline="", encoding="utf-8") as lines:
        header = next(csv.reader(lines))
    names = [re.sub(r"^answer_.+", "answer_<name>", name) for name in header]
    assert list(dict.fromkeys(names)) == columns, page
