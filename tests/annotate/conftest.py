from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest

from tests.support.annotation import here, quick_retries
from tests.support.openai_annotation import openai_key, openai_server

__all__ = ["here", "openai_key", "openai_server", "quick_retries"]
_END = "-----END CERTIFICATE-----\n"


@pytest.fixture(scope="module", autouse=True)
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trust one certificate authority only.

    These tests' servers speak plain HTTP, and an SDK's client reads all authorities up to three
    times when it is made: a quarter of what these tests compute.
    """
    file = tmp_path_factory.mktemp("authority") / "one.pem"
    file.write_text(Path(certifi.where()).read_text(encoding="utf-8").partition(_END)[0] + _END)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SSL_CERT_DIR", raising=False)
        patch.setenv("SSL_CERT_FILE", str(file))
        yield
