import pytest

from tests.support import training as project
from tests.support.families import folders, load  # noqa: F401


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    return project.make(tmp_path_factory.mktemp("project"))


@pytest.fixture
def workspace(template, tmp_path, monkeypatch):
    """A fresh copy of the project as the current folder."""
    monkeypatch.chdir(project.copy(template, tmp_path / "workspace"))
    return tmp_path / "workspace"
