"""A clone in which the whole pipeline has run: five minutes, once a module that asks for it."""

import pytest
from helpers.scratch import run

from tests.support.pipelines import clone_to


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = clone_to(tmp_path_factory.mktemp("pipeline") / "abo-vqa")
    (folder.parent / "repro.txt").write_text(run(folder, "dvc", "repro"))
    return folder


@pytest.fixture(scope="module")
def saved(clone):
    """What `abo-vqa session` saves of the clone once everything has run."""
    folder = clone.parent / "saved"
    run(clone, "abo-vqa", "session", "save", "--embeddings", str(folder))
    return folder
