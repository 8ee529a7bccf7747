"""Archives on object storage, on a real S3 server: the same results, few bytes, one index."""

import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import fsspec
import numpy as np
import pytest

from abo_vqa.cli import main
from abo_vqa.core.errors import UserError
from abo_vqa.data import remote_index, remote_tar
from abo_vqa.data.archive import IMAGES_TAR, LISTINGS_TAR, open_archive
from abo_vqa.data.curation import curate
from abo_vqa.data.image_files import ImageError
from abo_vqa.data.member_cache import CACHE_LIMIT_ENV
from abo_vqa.data.object_errors import ObjectChangedError
from abo_vqa.data.object_store import RemoteObject
from abo_vqa.data.study import STUDY_CONFIG
from abo_vqa.data.tar_index import build_index
from tests.support import ROOT
from tests.support.archives import write_tar
from tests.support.servers.object_store import WebFolder


def images_of(archive):
    return archive._images


def test_everything_is_as_it_is_locally(remote_shop):
    with open_archive(remote_shop.url) as remote, open_archive(remote_shop.local) as local:
        assert remote.image_paths() == local.image_paths()
        paths = [*local.image_paths(), "00/none.jpg"]
        assert remote.sizes(paths) == local.sizes(paths)
        assert remote.image_table().equals(local.image_table())
        assert list(remote.listings()) == list(local.listings())
        assert [remote.read(p) for p in paths[:-1]] == [local.read(p) for p in paths[:-1]]
        with pytest.raises(ImageError):
            remote.read("00/none.jpg")


def test_curation_gives_the_same_tables(remote_shop):
    remote = curate(remote_shop.url, STUDY_CONFIG, 42)
    local = curate(remote_shop.local, STUDY_CONFIG, 42)
    assert len(local.balanced) == 40
    assert remote.balanced.equals(local.balanced)
    assert (remote.funnel, remote.broken) == (local.funnel, local.broken)


def test_the_command_takes_a_url(remote_shop, tmp_path):
    for name, raw in (("remote", remote_shop.url), ("local", str(remote_shop.local))):
        assert main(["curate", "--raw", raw, "--out", str(tmp_path / f"{name}.csv")]) == 0
    assert (tmp_path / "remote.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()


def test_one_image_is_one_small_request(remote_shop):
    with open_archive(remote_shop.url) as archive:
        path = archive.image_paths()[7]
        remote = images_of(archive).remote
        before = remote.transferred
        data = archive.read(path)
        assert remote.transferred - before == 512 + len(data)
        assert archive.read(path) == data
        assert remote.transferred - before == 512 + len(data)  # kept on the local disk


def test_the_index_and_the_images_are_fetched_once(remote_shop):
    with open_archive(remote_shop.url) as archive:
        index = images_of(archive).index
        assert images_of(archive).remote.transferred > 0
        archive.prefetch(archive.image_paths())
    local = build_index(remote_shop.local / IMAGES_TAR)
    for part in ("names", "offsets", "sizes"):
        assert np.array_equal(getattr(index, part), getattr(local, part))
    with open_archive(remote_shop.url) as again:
        images = [again.read(path) for path in again.image_paths()]
        assert images_of(again).remote.transferred == 0
    with open_archive(remote_shop.local) as local_archive:
        assert images == [local_archive.read(path) for path in local_archive.image_paths()]


def test_large_members_are_skipped_while_the_index_is_built(remote_shop, tmp_path):
    big = write_tar(tmp_path / "big.tar", {f"m/{i}": bytes(3 << 20) for i in range(6)})
    remote_shop.client.upload_file(str(big), remote_shop.bucket, "big.tar")
    members = remote_tar.RemoteTarMembers(f"s3://{remote_shop.bucket}/big.tar")
    assert members.remote.transferred < 100_000
    assert [members.size(name) for name in members.names()] == [3 << 20] * 6
    members.close()


def test_an_interrupted_index_continues(remote_shop, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_index, "REQUEST_SIZE", 4096)
    monkeypatch.setattr(remote_index, "_REQUESTS", 2)
    monkeypatch.setattr(remote_index, "_FIRST_READ", 4096)
    monkeypatch.setattr(remote_index, "_SAVED_EVERY", 16384)
    url = f"{remote_shop.url}/{IMAGES_TAR}"
    remote = RemoteObject(url)
    real, calls = RemoteObject.read, []

    def dying(self, ranges):
        calls.append(ranges)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(self, ranges)

    monkeypatch.setattr(RemoteObject, "read", dying)
    with pytest.raises(KeyboardInterrupt):
        remote_index.load_or_build_remote(remote, tmp_path)
    first = remote.transferred
    remote_index.load_or_build_remote(remote, tmp_path)
    assert first > 16384
    # What lay between the last save and the end was read twice, and no more.
    assert remote.transferred < remote.state.size + 16384 + 8192
    assert [file.name for file in tmp_path.glob("*.npz")] == ["index.npz"]
    index = remote_index.load_or_build_remote(remote, tmp_path)
    local = build_index(remote_shop.local / IMAGES_TAR)
    assert np.array_equal(index.names, local.names)
    assert np.array_equal(index.offsets, local.offsets)


def test_names_that_only_tarfile_reads(remote_shop, tmp_path):
    long = "images/small/" + "x" * 120 + ".jpg"
    tar = write_tar(tmp_path / "long.tar", {long: b"content", "images/small/a.jpg": b"a"})
    remote_shop.client.upload_file(str(tar), remote_shop.bucket, "long.tar")
    members = remote_tar.RemoteTarMembers(f"s3://{remote_shop.bucket}/long.tar")
    assert (members.read(long), members.read("images/small/a.jpg")) == (b"content", b"a")
    members.close()


@pytest.mark.parametrize("limit", ["0", "0.00001"])
def test_without_room_on_the_disk_images_wait_in_memory(remote_shop, monkeypatch, limit):
    monkeypatch.setenv(CACHE_LIMIT_ENV, limit)
    with open_archive(remote_shop.url) as archive, open_archive(remote_shop.local) as local:
        paths = archive.image_paths()
        archive.prefetch(paths)
        fetched = images_of(archive).remote.transferred
        assert [archive.read(p) for p in paths] == [local.read(p) for p in paths]
        assert images_of(archive).remote.transferred == fetched
        archive.read(paths[-1])
        assert images_of(archive).remote.transferred > fetched  # given up once it was read


def test_a_wrong_limit(remote_shop, monkeypatch):
    monkeypatch.setenv(CACHE_LIMIT_ENV, "much")
    with pytest.raises(UserError, match=r"ABO_VQA_REMOTE_CACHE_GB: found 'much'"):
        open_archive(remote_shop.url)


def test_a_damaged_local_copy_is_fetched_again(remote_shop, tmp_path):
    with open_archive(remote_shop.url) as archive:
        path = archive.image_paths()[0]
        data = archive.read(path)
    for file in tmp_path.glob(".cache/abo-vqa/remote/*/*/members"):
        file.write_bytes(bytes(file.stat().st_size))
    with open_archive(remote_shop.url) as archive:
        assert archive.read(path) == data


def read_first(archive):
    path = archive.image_paths()[3]
    return path, archive.read(path)


def test_workers_open_their_own(remote_shop):
    with open_archive(remote_shop.url) as archive:
        expected = read_first(archive)
        assert read_first(pickle.loads(pickle.dumps(archive))) == expected
        with ProcessPoolExecutor(1, get_context("fork")) as pool:
            assert pool.submit(read_first, archive).result(60) == expected
        # A process that shares nothing, whatever other tests have done to this one's path.
        program = "import pickle, sys; a = pickle.load(sys.stdin.buffer); "
        program += "sys.stdout.buffer.write(a.read(sys.argv[1]))"
        done = subprocess.run(
            [sys.executable, "-c", program, expected[0]],
            input=pickle.dumps(archive),
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            check=True,
        )
        assert done.stdout == expected[1]


def test_a_forked_process_reads_through_its_parents_archive(remote_shop, monkeypatch):
    monkeypatch.setenv(CACHE_LIMIT_ENV, "0")
    with open_archive(remote_shop.url) as archive:
        expected = read_first(archive)
        process = get_context("fork").Process(target=_compare, args=(archive, expected))
        process.start()
        process.join(60)
        assert process.exitcode == 0


def _compare(archive, expected):
    assert read_first(archive) == expected


def test_any_store_of_fsspec(remote_shop):
    memory = fsspec.filesystem("memory")
    for name in (LISTINGS_TAR, IMAGES_TAR):
        memory.pipe(f"/shop/{name}", (remote_shop.local / name).read_bytes())
    with open_archive("memory://shop") as remote, open_archive(remote_shop.local) as local:
        assert remote.image_paths() == local.image_paths()
        paths = local.image_paths()
        remote.prefetch(paths[:5])
        assert [remote.read(p) for p in paths] == [local.read(p) for p in paths]
        memory.pipe(f"/shop/{IMAGES_TAR}", b"another")
        with pytest.raises(ObjectChangedError):
            images_of(remote).remote.check()


def test_a_web_server_with_ranges(remote_shop):
    with WebFolder(remote_shop.local) as web, open_archive(remote_shop.local) as local:
        with open_archive(web.url) as remote:
            paths = local.image_paths()
            remote.prefetch(paths[:20])
            assert [remote.read(p) for p in paths] == [local.read(p) for p in paths]
            tar = remote_shop.local / IMAGES_TAR
            tar.write_bytes(tar.read_bytes() + bytes(512))
            with pytest.raises(ObjectChangedError):
                images_of(remote).remote.check()
            tar.unlink()
            with pytest.raises(ObjectChangedError):
                images_of(remote).remote.check()
        with pytest.raises(
            UserError, match=rf"{web.url} holds no {IMAGES_TAR}|no bucket or folder"
        ):
            open_archive(web.url)


def test_former_versions_leave_the_disk(remote_shop, tmp_path):
    with open_archive(remote_shop.url):
        pass
    kept = sorted(tmp_path.glob(".cache/abo-vqa/remote/*/*"))
    shutil.copy(remote_shop.local / IMAGES_TAR, tmp_path / "new.tar")
    content = (tmp_path / "new.tar").read_bytes() + bytes(512)
    remote_shop.replace(IMAGES_TAR, content)
    with open_archive(remote_shop.url):
        pass
    now = sorted(tmp_path.glob(".cache/abo-vqa/remote/*/*"))
    assert len(now) == len(kept) == 2
    assert now != kept
