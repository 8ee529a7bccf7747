import pytest

from tests.support import training as project


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return project.make(tmp_path_factory.mktemp("project"))


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A fresh copy of the project as the current folder."""
    monkeypatch.chdir(project.copy(made, tmp_path / "here"))
    return tmp_path / "here"
