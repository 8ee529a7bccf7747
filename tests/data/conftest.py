"""An object store with archives in it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import listing, write_shop
from tests.support.servers.object_store import KEY, SECRET, ObjectStore


@dataclass
class RemoteShop:
    """The same archives in a folder and in a bucket, and a client to change them."""

    local: Path
    url: str
    bucket: str
    client: Any

    def replace(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"shop/{name}", Body=content)


@pytest.fixture(scope="module")
def object_store() -> Iterator[ObjectStore]:
    with ObjectStore() as store:
        yield store


@pytest.fixture
def remote_shop(
    object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RemoteShop:
    """Archives of 40 images; the current folder is a project of its own, with its own cache."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    use_store(monkeypatch, object_store.endpoint)
    ids = {f"{i:04d}": f"{i % 3:02d}/{i:08d}.jpg" for i in range(40)}
    listings = [listing(image) for image in ids]
    local = write_shop(tmp_path / "local", {"0": listings[:25], "1": listings[25:]}, ids)
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    url = object_store.upload(local, bucket, "shop")
    return RemoteShop(local, url, bucket, object_store.client())


def use_store(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set the variables that a user sets for an S3-compatible store."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    import fsspec  # connections of another test's endpoint aren't this one's

    for protocol in ("s3", "http", "memory"):
        fsspec.get_filesystem_class(protocol).clear_instance_cache()
