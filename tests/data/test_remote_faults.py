"""What goes wrong with object storage: noticed, tried again where that helps, said in one line."""

from pathlib import Path

import pytest
from s3fs import S3FileSystem

from abo_vqa.cli import main
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.data import object_store as object_store_module
from abo_vqa.data import remote_tar
from abo_vqa.data.archive import IMAGES_TAR, LISTINGS_TAR, open_archive
from abo_vqa.data.image_collection import open_images
from abo_vqa.data.object_errors import ObjectChangedError, describe_missing_package
from tests.data.conftest import use_store
from tests.support.archives import jpeg, write_tar
from tests.support.servers.object_store import SECRET, CutWire


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(object_store_module, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(S3FileSystem, "retries", 1)


def fault(capsys, *words):
    """Run a command; return its error's code and text, which is one line."""
    code = main([*words])
    message = capsys.readouterr().err.strip()
    assert "Traceback" not in message
    assert SECRET not in message
    return code, message.splitlines()[-1]


def curated(url, tmp_path, capsys):
    return fault(capsys, "curate", "--raw", url, "--out", str(tmp_path / "out.csv"))


def test_an_object_that_changes_under_a_run_is_noticed_by_the_next_read(remote_shop):
    with open_archive(remote_shop.url) as archive:
        first, second, *rest = archive.image_paths()
        archive.read(first)
        same_places = {f"images/small/{p}": jpeg(99) for p in (first, second)}
        remote_shop.replace(IMAGES_TAR, (remote_shop.local / IMAGES_TAR).read_bytes() + bytes(512))
        with pytest.raises(ObjectChangedError, match=r"was changed or removed while it was in use"):
            archive.read(second)
        with pytest.raises(ObjectChangedError):
            archive.prefetch(rest)
        assert archive.read(first)  # of the old version, as everything before it
    assert same_places


def test_an_object_that_is_removed_under_a_run(remote_shop):
    with open_archive(remote_shop.url) as archive:
        path = archive.image_paths()[0]
        remote_shop.client.delete_object(Bucket=remote_shop.bucket, Key=f"shop/{IMAGES_TAR}")
        with pytest.raises(ObjectChangedError):
            archive.read(path)


def test_no_such_bucket_key_or_protocol(remote_shop, tmp_path, capsys):
    code, message = curated("s3://no-such-bucket/shop", tmp_path, capsys)
    assert code == 2
    assert "there is no bucket or folder s3://no-such-bucket/shop" in message
    code, message = curated(f"s3://{remote_shop.bucket}/elsewhere", tmp_path, capsys)
    assert code == 2
    assert f"s3://{remote_shop.bucket}/elsewhere" in message
    remote_shop.client.delete_object(Bucket=remote_shop.bucket, Key=f"shop/{IMAGES_TAR}")
    code, message = curated(remote_shop.url, tmp_path, capsys)
    assert code == 2
    assert f"holds no {IMAGES_TAR} (found: {LISTINGS_TAR})" in message
    code, message = curated("nonsense://shop", tmp_path, capsys)
    assert code == 2
    assert "Protocol not known: nonsense" in message


def test_wrong_and_missing_credentials(remote_shop, object_store, tmp_path, capsys, monkeypatch):
    with object_store.asking_for_credentials():
        code, message = curated(remote_shop.url, tmp_path, capsys)
    assert code == 2
    assert "access is denied" in message
    assert "AWS_ACCESS_KEY_ID" in message
    use_store(monkeypatch, object_store.endpoint)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    code, message = curated(remote_shop.url, tmp_path, capsys)
    assert code == 2
    assert "access is denied, or credentials are missing" in message


@pytest.mark.parametrize(
    "url", ["https://jane:pw-not-seen@example.org/shop", "https://example.org/shop?sig=pw-not-seen"]
)
def test_a_url_with_a_secret_isnt_repeated(tmp_path, capsys, url):
    code, message = curated(url, tmp_path, capsys)
    assert code == 2
    assert "pw-not-seen" not in message


def test_dropped_connections_are_tried_again(remote_shop, object_store, monkeypatch):
    with CutWire(object_store.host, object_store.port) as wire:
        use_store(monkeypatch, wire.endpoint)
        wire.cuts = [700, 50, 900]
        with open_archive(remote_shop.url) as remote, open_archive(remote_shop.local) as local:
            paths = local.image_paths()
            wire.cuts += [300, 600]
            remote.prefetch(paths[:20])
            wire.cuts += [1, 400]
            assert [remote.read(p) for p in paths] == [local.read(p) for p in paths]
        assert not wire.cuts


def test_a_network_that_stays_down_ends_in_one_line(
    remote_shop, object_store, monkeypatch, tmp_path, capsys
):
    with CutWire(object_store.host, object_store.port) as wire:
        use_store(monkeypatch, wire.endpoint)
        with open_archive(remote_shop.url) as archive:
            first, second, *_ = archive.image_paths()
            data = archive.read(first)
            wire.down = True
            with pytest.raises(RetryLaterError, match=r"6 times in a row.*continues"):
                archive.read(second)
            assert "again in" in capsys.readouterr().err
            assert archive.read(first) == data  # from the local disk
        code, message = curated(remote_shop.url, tmp_path, capsys)
        assert code == 75
        assert "Check the network and the endpoint (AWS_ENDPOINT_URL" in message


def test_what_isnt_a_tar(remote_shop, tmp_path):
    whole = (remote_shop.local / IMAGES_TAR).read_bytes()
    for content, text in (
        (b"", "is empty"),
        (b"<html>no</html>" * 1000, "isn't a tar archive, or is damaged"),
        (whole[: len(whole) // 2 // 512 * 512], "is truncated"),
    ):
        remote_shop.replace(IMAGES_TAR, content)
        with pytest.raises(UserError, match=text):
            open_archive(remote_shop.url)
    evil = write_tar(tmp_path / "evil.tar", {"../outside": b"x"})
    remote_shop.replace(IMAGES_TAR, evil.read_bytes())
    with pytest.raises(UserError, match="outside its own folder"):
        open_archive(remote_shop.url)


def test_a_header_that_isnt_the_index_s(remote_shop):
    """A store without versions: the header before the data tells."""
    with open_archive(remote_shop.url) as archive:
        members = archive._images
        members.index.offsets[:] += 512
        with pytest.raises(ObjectChangedError):
            archive.read(archive.image_paths()[0])


def test_images_of_a_users_table_arent_read_from_a_url():
    with pytest.raises(UserError, match=r"only data.raw of a profile and .* Copy the tar"):
        open_images(Path("s3://bucket/images.tar"))


def test_a_missing_package_says_how_to_install_it():
    message = describe_missing_package("s3://b/shop", ImportError("Install s3fs to access S3"))
    assert message == (
        "s3://b/shop can't be read: s3fs isn't installed. `make setup EXTRAS=s3` installs it."
    )
    message = describe_missing_package("gs://b/shop", ImportError("Please install gcsfs"))
    assert message.endswith("Install gcsfs into .venv.")


def test_a_fault_of_our_own_isnt_taken_for_the_networks(remote_shop, monkeypatch):
    def broken(*_):
        raise TypeError("ours")

    with open_archive(remote_shop.url) as archive:
        monkeypatch.setattr(remote_tar.RemoteObject, "_open", broken)
        with pytest.raises(TypeError, match="ours"):
            archive.read(archive.image_paths()[0])
