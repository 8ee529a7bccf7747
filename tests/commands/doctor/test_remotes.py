"""DVC's remotes, a real S3 server's among them: what they lack, and why they can't be used."""

import subprocess

import boto3
import pytest
from moto.server import ThreadedMotoServer

from abo_vqa.commands.doctor.remotes import remotes

PIPELINE = """
stages:
  one:
    cmd: mkdir -p out && echo 1 > out/a && echo 2 > out/b
    outs: [out]
"""


@pytest.fixture(scope="module")
def s3():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3, monkeypatch):
    """A bucket of its own, with AWS_ variables that may write to it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-seen")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket="abo")
    yield client
    for entry in client.list_objects_v2(Bucket="abo").get("Contents", []):
        client.delete_object(Bucket="abo", Key=entry["Key"])
    client.delete_bucket(Bucket="abo")


def configure(checkout, name="store", default=True, **options):
    lines = [f"[core]\n    remote = {name}\n"] if default else []
    lines.append(f"['remote \"{name}\"']\n")
    lines += [f"    {key} = {value}\n" for key, value in options.items()]
    (checkout / ".dvc/config").write_text("".join(lines))


def dvc(checkout, *words):
    subprocess.run(["dvc", *words], cwd=checkout, check=True, capture_output=True)


def test_an_s3_remote_is_compared_with_dvc_lock(look, checkout, s3, bucket):
    (checkout / "dvc.yaml").write_text(PIPELINE)
    configure(checkout, url="s3://abo/some/folder", endpointurl=s3)
    dvc(checkout, "repro", "-q")
    found = look(remotes)
    assert (found["remote store"].state, found["remote store"].numbers) == (
        "warning",
        {"files": 3.0, "missing": 3.0, "lost": 0.0},
    )
    assert "`dvc push --remote store`" in found["remote store"].advice
    dvc(checkout, "push", "-q")
    found = look(remotes)["remote store"]
    assert (found.state, found.found) == (
        "ok",
        "has all 3 files that dvc.lock and the .dvc files name",
    )
    # A file that is nowhere any more: neither pushing nor pulling helps.
    kept = [o["Key"] for o in bucket.list_objects_v2(Bucket="abo")["Contents"]]
    assert len(kept) == 3  # what was written to try it is gone
    key = next(key for key in kept if not key.endswith(".dir"))
    bucket.delete_object(Bucket="abo", Key=key)
    (checkout / ".dvc/cache" / key.removeprefix("some/folder/")).unlink()
    found = look(remotes)["remote store"]
    assert found.numbers == {"files": 3.0, "missing": 1.0, "lost": 1.0}
    assert "`dvc repro` makes them again" in found.advice


def test_a_bucket_that_isnt_there(look, checkout, s3, bucket):
    configure(checkout, url="s3://nowhere/folder", endpointurl=s3)
    found = look(remotes)["remote store"]
    assert (found.state, found.advice.partition(",")[0]) == ("problem", "Make the bucket or folder")
    configure(checkout, default=False, url="s3://nowhere/folder", endpointurl=s3)
    assert look(remotes)["remote store"].state == "warning"
    configure(checkout, default=False, url="s3://abo/folder", endpointurl=s3)
    assert "answers" in look(remotes)["remote store"].found


def test_no_credentials(look, checkout, s3, bucket, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    configure(checkout, url="s3://abo/folder", endpointurl=s3)
    found = look(remotes)["remote store"]
    assert found.state == "problem"
    assert "Check the credentials" in found.advice


def test_an_endpoint_that_doesnt_answer(look, checkout, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-seen")
    # Nothing listens there; its number isn't the status 403.
    configure(checkout, url="s3://abo/folder", endpointurl="http://127.0.0.1:40317")
    found = look(remotes)["remote store"]
    assert found.state == "problem"
    assert "can't be written" in found.found
    assert "endpointurl" in found.advice
    assert "Traceback" not in str(found)
    assert "not-to-be-seen" not in str(found)


def test_a_folder(look, checkout):
    folder = checkout.parent / "folder"
    configure(checkout, url=str(folder))
    assert look(remotes)["remote store"].state == "warning"
    folder.mkdir()
    found = look(remotes)["remote store"]
    assert found.found == f"{folder} (the default), can be written"
    assert not list(folder.iterdir())


def test_secrets_in_a_remotes_settings_are_hidden(look, checkout):
    configure(checkout, default=False, url="https://jane:not-to-be-seen@127.0.0.1:1/abo")
    found = look(remotes)
    assert "https://***@127.0.0.1:1/abo" in found["remote store"].found
    assert "not-to-be-seen" not in str(found)


def test_a_default_that_isnt_configured(look, checkout):
    (checkout / ".dvc/config").write_text("[core]\n    remote = nowhere\n")
    found = look(remotes)["remote"]
    assert found.state == "problem"
    assert "nowhere" in found.found


def test_no_remote_is_no_problem(look):
    assert [f.state for f in look(remotes).values()] == ["ok"]
