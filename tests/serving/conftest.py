import pytest

from tests.support.try_page import project_with_adapter


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory):
    return project_with_adapter(tmp_path_factory.mktemp("page"))
