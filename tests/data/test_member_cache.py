"""Members kept on the local disk: shared by processes, limited, never trusted."""

import errno
import os

import numpy as np
import pytest

from abo_vqa.core.remote_pin import ObjectVersion
from abo_vqa.data import member_cache
from abo_vqa.data.member_cache import CACHE_LIMIT_ENV, MemberCache, remote_cache


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "url" / "version"
    place.mkdir(parents=True)
    return place


def test_what_one_process_keeps_another_has(folder):
    one, two = MemberCache(folder, 3), MemberCache(folder, 3)
    assert two.get(1, 4096, 5) is None
    assert one.put(1, 4096, b"bytes")
    assert two.get(1, 4096, 5) == b"bytes"
    assert two.missing(np.arange(3)).tolist() == [0, 2]


def test_a_gap_in_the_file_is_no_member(folder):
    """As after a crash, or on a disk that is shared and late."""
    kept = MemberCache(folder, 2)
    kept.put(0, 0, b"x" * 100)
    kept.put(1, 100, b"y" * 100)
    os.truncate(folder / "members", 150)
    assert kept.get(0, 0, 100) == b"x" * 100
    assert kept.get(1, 100, 100) is None


def test_the_limit_counts_all_objects(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_LIMIT_ENV, "0.0002")  # 200 KB
    first, second = (tmp_path / name / "version" for name in ("a", "b"))
    for folder in (first, second):
        folder.mkdir(parents=True)
    one = MemberCache(first, 10)
    fitted = [one.put(i, i * 65536, b"z" * 65536) for i in range(5)]
    os.sync()
    assert fitted[0]
    assert not fitted[-1]
    assert one.get(0, 0, 65536) == b"z" * 65536  # what is kept stays
    assert not MemberCache(second, 10).put(0, 0, b"z" * 65536)


def test_a_full_disk_ends_the_keeping_and_nothing_else(folder, monkeypatch, capsys):
    kept = MemberCache(folder, 2)

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(member_cache.os, "pwrite", refuse)
    assert not kept.put(0, 0, b"x")
    monkeypatch.undo()
    assert not kept.put(0, 0, b"x")
    assert capsys.readouterr().err.count("no more images from object storage are kept") == 1


def test_another_version_takes_the_place_of_the_former(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    old = remote_cache("s3://b/a.tar", ObjectVersion(10, "one"))
    other = remote_cache("s3://b/b.tar", ObjectVersion(10, "one"))
    new = remote_cache("s3://b/a.tar", ObjectVersion(10, "two"))
    assert not old.exists()
    assert new.is_dir()
    assert other.is_dir()
