"""A checkout of its own for tests of what is recorded."""

import os
import shutil

import pytest

from abo_vqa.core.config import load_config
from abo_vqa.core.tracking import outbox
from tests.support import ROOT


@pytest.fixture
def checkout(tmp_path, monkeypatch, tables):
    """An empty main checkout, and the repository's configuration."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(tables, folder)
    monkeypatch.chdir(ROOT)
    config = load_config()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.setenv("DVC_EXP_NAME", "shiny-otter")
    monkeypatch.setattr(outbox, "FLUSH_TIMEOUT_S", 1.0)
    monkeypatch.chdir(folder)
    yield config
    os.environ.pop("MLFLOW_TRACKING_URI", None)
