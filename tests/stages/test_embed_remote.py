"""The stage `embed` with its shards on object storage, a real S3-compatible server."""

import hashlib
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import embeddings_of
from abo_vqa.core.vector_files import SHARDS_FILE, vector_files
from abo_vqa.data import remote_vectors
from abo_vqa.models.blip.model import Blip
from abo_vqa.models.embeddings import files, uploading
from abo_vqa.models.embeddings.store import EmbeddingStore
from abo_vqa.stages import embed
from tests.data.conftest import use_store
from tests.support import workspaces
from tests.support.servers.object_store import ObjectStore
from tests.support.stages import run_stage

EMBEDDINGS = embeddings_of("blip")
IMAGE = 5 * 32 * 4  # bytes of the tiny BLIP's output


@pytest.fixture(scope="module")
def object_store() -> Iterator[ObjectStore]:
    with ObjectStore() as store:
        yield store


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workspaces.workspace(tmp_path_factory.mktemp("embed"), "blip", images=11, broken=1)


@pytest.fixture
def bucket(project: Path, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket's name; shards are of three images."""
    monkeypatch.chdir(project)
    shutil.rmtree(".cache", ignore_errors=True)
    shutil.rmtree(EMBEDDINGS, ignore_errors=True)
    use_store(monkeypatch, object_store.endpoint)
    monkeypatch.setattr(files, "SHARD_BYTES", 3 * IMAGE)
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    object_store.client().create_bucket(Bucket=name)
    return name


def config_for(bucket: str | None, batch_size: int = 2):
    config = load_config()
    store = None if bucket is None else f"s3://{bucket}/some/prefix/"
    changes = {"store": store, "batch_size": batch_size}
    return config.model_copy(update={"embed": config.embed.model_copy(update=changes)})


def objects(object_store: ObjectStore, bucket: str) -> dict[str, bytes]:
    client = object_store.client()
    listed = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    keys = [entry["Key"] for entry in listed]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def test_shards_go_to_the_store_and_their_list_to_dvc(object_store, bucket) -> None:
    run_stage(embed, config_for(None))
    one = EmbeddingStore.open(EMBEDDINGS)
    paths = [path for path in one.index if path not in one.errors]
    expected = one.get(paths)
    meta = (EMBEDDINGS / "meta.json").read_bytes()
    shutil.rmtree(EMBEDDINGS)
    summary = run_stage(embed, config_for(bucket))
    assert sorted(p.name for p in EMBEDDINGS.iterdir()) == ["meta.json", "paths.csv", SHARDS_FILE]
    assert (EMBEDDINGS / "meta.json").read_bytes() == meta
    listed = read_json(EMBEDDINGS / SHARDS_FILE)
    prefix = listed["url"].removeprefix(f"s3://{bucket}/")
    assert prefix.startswith("some/prefix/blip/")
    there = objects(object_store, bucket)
    assert set(there) == {
        f"{prefix}/about.json",
        *(f"{prefix}/{s['file']}" for s in listed["shards"]),
    }
    for shard in listed["shards"]:
        content = there[f"{prefix}/{shard['file']}"]
        assert (shard["bytes"], shard["md5"]) == (len(content), hashlib.md5(content).hexdigest())
    assert f"{EMBEDDINGS}, vectors at s3://{bucket}/some/prefix" in summary.message
    assert summary.metrics["bytes"] == sum(shard["bytes"] for shard in listed["shards"])
    store = EmbeddingStore.open(EMBEDDINGS)
    assert torch.equal(store.get(paths), expected)
    assert torch.equal(store.get([paths[7], paths[1]]), expected[[7, 1]])
    store.close()


def test_no_more_than_the_images_is_read_and_once(bucket, monkeypatch) -> None:
    run_stage(embed, config_for(bucket))
    read = []
    original = remote_vectors.RemoteObject.read
    monkeypatch.setattr(
        remote_vectors.RemoteObject,
        "read",
        lambda self, ranges: read.extend(b - a for a, b in ranges) or original(self, ranges),
    )
    store = EmbeddingStore.open(EMBEDDINGS)
    paths = list(store.index)
    first = store.get([paths[8], paths[3], paths[4]])
    # Two shards' headers; images that are neighbours are one request.
    assert sorted(read) == [128, 128, IMAGE, 2 * IMAGE]
    read.clear()
    assert torch.equal(store.get([paths[8], paths[3], paths[4]]), first)
    assert torch.equal(EmbeddingStore.open(EMBEDDINGS).get([paths[8]])[0], first[0])
    assert read == [128]  # another process, or one like it, finds the image on the disk
    monkeypatch.setenv("ABO_VQA_REMOTE_CACHE_GB", "0")
    assert torch.equal(EmbeddingStore.open(EMBEDDINGS).get([paths[8]])[0], first[0])
    assert read == [128, 128, IMAGE]


def test_uploaded_shards_are_neither_computed_nor_sent_again(bucket, monkeypatch) -> None:
    run_stage(embed, config_for(bucket))
    whole = {p.name: p.read_bytes() for p in EMBEDDINGS.iterdir()}
    encode, upload, calls, sent = Blip.encode, uploading.upload_file, [], []

    def dies(self, prepared):
        calls.append(len(prepared))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return encode(self, prepared)

    monkeypatch.setattr(Blip, "encode", dies)
    monkeypatch.setattr(
        uploading, "upload_file", lambda file, url: sent.append(url[-9:]) or upload(file, url)
    )
    with pytest.raises(KeyboardInterrupt):
        run_stage(embed, config_for(bucket))
    assert [name for name in sent if name.endswith(".npy")] == ["00000.npy", "00001.npy"]
    (work,) = Path(".cache/abo-vqa/embed").iterdir()
    assert [file.name for file in vector_files(work)] == ["vectors-00002.npy"]
    sent.clear()
    run_stage(embed, config_for(bucket))
    assert calls == [2, 2, 2, 2, 2, 2]  # the last image is broken
    assert [name for name in sent if name.endswith(".npy")] == ["00002.npy", "00003.npy"]
    assert {p.name: p.read_bytes() for p in EMBEDDINGS.iterdir()} == whole


def test_shards_that_the_store_has_lost_are_computed_again(
    object_store, bucket, monkeypatch, capsys
) -> None:
    embed.run(config_for(bucket))  # without the end, at which the scratch folder goes
    whole = {p.name: p.read_bytes() for p in EMBEDDINGS.iterdir()}
    there = objects(object_store, bucket)
    key = next(key for key in there if key.endswith("00001.npy"))
    object_store.client().delete_object(Bucket=bucket, Key=key)
    run_stage(embed, config_for(bucket))
    assert "doesn't hold what is on record" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in EMBEDDINGS.iterdir()} == whole
    assert objects(object_store, bucket) == there


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign", "text"])
def test_a_damaged_object_is_one_message_that_names_it(object_store, bucket, damage) -> None:
    run_stage(embed, config_for(bucket))
    there = objects(object_store, bucket)
    key = next(key for key in there if key.endswith("00001.npy"))
    if damage == "missing":
        object_store.client().delete_object(Bucket=bucket, Key=key)
    else:
        content = {
            "truncated": there[key][:-8],
            "foreign": there[key].replace(b"(3, 5, 32)", b"(5, 3, 32)"),
            "text": b"x" * len(there[key]),
        }[damage]
        object_store.client().put_object(Bucket=bucket, Key=key, Body=content)
    store = EmbeddingStore.open(EMBEDDINGS)
    paths = list(store.index)
    assert len(store.get([paths[0]])) == 1
    with pytest.raises(UserError) as refused:
        store.get([paths[4]])
    message = str(refused.value)
    fault = "missing" if damage == "missing" else r"damaged or incomplete ("
    assert message.startswith(f"s3://{bucket}/{key} is {fault}")
    assert message.endswith("run the stage `embed`: dvc repro embed@blip.")
    assert "\n" not in message


def test_a_store_that_takes_nothing_is_said_before_the_work(
    object_store, bucket, monkeypatch
) -> None:
    monkeypatch.setattr(Blip, "encode", None)  # nothing is encoded
    with pytest.raises(UserError, match=r"s3://none-such/\S+ can't be written: there is no such b"):
        run_stage(embed, config_for("none-such"))
    with (
        object_store.asking_for_credentials(),
        pytest.raises(UserError, match="can't be written: access is denied, or credentials"),
    ):
        run_stage(embed, config_for(bucket))


def test_the_package_that_s3_needs_is_named(bucket, monkeypatch) -> None:
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError, match=r"s3fs isn't installed\. `make setup EXTRAS=s3`"):
        run_stage(embed, config_for(bucket))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("bucket/prefix", "embed.store: .*URL of a folder, such as s3://bucket/prefix"),
        ("s3://key:secret-not-seen@bucket/prefix", "embed.store: .*a URL with a login in it"),
        ("s3://bucket/prefix?secret-not-seen", r"embed.store: .*a URL with a \? or #"),
    ],
)
def test_wrong_settings_are_named(bucket, value: str, message: str) -> None:
    params = Path("params.yaml")
    kept = params.read_text()
    try:
        content = yaml.safe_load(kept)
        content["embed"]["store"] = value
        params.write_text(yaml.safe_dump(content))
        with pytest.raises(UserError, match=message) as refused:
            load_config()
    finally:
        params.write_text(kept)
    assert "secret-not-seen" not in str(refused.value)
