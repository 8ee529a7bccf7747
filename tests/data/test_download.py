"""The downloader against a real local server that drops, stalls, truncates, lies and changes."""

import resource
import shutil
import time

import pytest

from abo_vqa.core import system_errors
from abo_vqa.core.data_config import DownloadConfig
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.data.download import (
    PartialDownload,
    RetryPolicy,
    append_body,
    download_archive,
    lock_folder,
)
from tests.support.downloads import NEW, OLD, SHA, tar_of
from tests.support.servers.files import Fault, FileServer

QUICK = RetryPolicy(attempts=3, wait=0.01, timeout=0.5)


def get(server, folder, patience=QUICK, **known):
    return download_archive(DownloadConfig(url=server.url, **known), folder / "abo.tar", patience)


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_good_download_is_recorded_and_leaves_nothing_else(tmp_path):
    with FileServer(OLD) as server:
        found = get(server, tmp_path)
    assert (tmp_path / "abo.tar").read_bytes() == OLD
    assert (found.bytes, found.sha256) == (len(OLD), SHA)
    assert leftovers(tmp_path) == ["abo.tar"]


@pytest.mark.parametrize("validator", ["etag", "weak", "date"])
def test_dropped_connections_resume_where_they_stopped(tmp_path, validator):
    faults = [Fault(drop_after=70_000), Fault(drop_after=1), Fault(drop_after=50_000)]
    with FileServer(OLD, faults, validator=validator) as server:
        get(server, tmp_path)
        assert server.sent == len(OLD)  # not one byte twice
        assert [r.get("Range") for r in server.seen] == [
            None, "bytes=70000-", "bytes=70001-", "bytes=120001-",
        ]  # fmt: skip
        assert all(r["Accept-Encoding"] == "identity" for r in server.seen)
    assert (tmp_path / "abo.tar").read_bytes() == OLD


def test_progress_resets_the_patience(tmp_path):
    with FileServer(OLD, [Fault(drop_after=20_000) for _ in range(8)]) as server:
        get(server, tmp_path)
    assert (tmp_path / "abo.tar").read_bytes() == OLD


def test_a_stalled_connection_is_given_up_and_resumed(tmp_path):
    with FileServer(OLD, [Fault(stall_after=30_000)]) as server:
        get(server, tmp_path)
        assert server.seen[1]["Range"] == "bytes=30000-"
    assert (tmp_path / "abo.tar").read_bytes() == OLD


def test_too_many_failures_keep_what_is_there_for_the_next_start(tmp_path):
    with FileServer(OLD, [Fault(drop_after=70_000), *[Fault(status=503)] * 3]) as server:
        with pytest.raises(RetryLaterError, match=r"answers 503, 3 times in a row\. 70,000"):
            get(server, tmp_path)
        get(server, tmp_path)
        assert server.sent == len(OLD)
    assert (tmp_path / "abo.tar").read_bytes() == OLD


def test_a_busy_server_is_given_the_time_it_asks_for(tmp_path):
    with FileServer(OLD, [Fault(status=429, retry_after=1)]) as server:
        start = time.monotonic()
        get(server, tmp_path)
        assert time.monotonic() - start >= 1


def test_a_file_that_changes_between_tries_is_started_over(tmp_path):
    faults = [Fault(drop_after=70_000), Fault(change_to=NEW)]
    with FileServer(OLD, faults) as server:
        get(server, tmp_path)
    assert (tmp_path / "abo.tar").read_bytes() == NEW


def test_a_changed_file_is_noticed_when_the_server_ignores_if_range(tmp_path):
    faults = [Fault(drop_after=70_000), Fault(change_to=NEW)]
    with FileServer(OLD, faults, honest=False) as server:
        get(server, tmp_path)
    assert (tmp_path / "abo.tar").read_bytes() == NEW


def test_a_file_that_became_shorter_is_started_over(tmp_path):
    short = tar_of(3, members=4)
    faults = [Fault(drop_after=70_000), Fault(change_to=short)]
    with FileServer(OLD, faults, honest=False) as server:
        get(server, tmp_path)
    assert (tmp_path / "abo.tar").read_bytes() == short


def test_a_server_without_ranges_sends_it_all_again(tmp_path):
    with FileServer(OLD, [Fault(drop_after=70_000)], ranges=False) as server:
        get(server, tmp_path)
    assert (tmp_path / "abo.tar").read_bytes() == OLD


def test_without_any_version_from_the_server_old_and_new_bytes_are_not_mixed(tmp_path):
    faults = [Fault(drop_after=70_000), Fault(change_to=NEW)]
    with FileServer(OLD, faults, validator="none") as server:
        get(server, tmp_path)
        assert "Range" not in server.seen[1]
    assert (tmp_path / "abo.tar").read_bytes() == NEW


def test_without_any_version_a_recorded_hash_allows_resuming(tmp_path):
    with FileServer(OLD, [Fault(drop_after=70_000)], validator="none") as server:
        get(server, tmp_path, bytes=len(OLD), sha256=SHA)
        assert server.seen[1]["Range"] == "bytes=70000-"
    assert (tmp_path / "abo.tar").read_bytes() == OLD


@pytest.mark.parametrize("claim", [100_000, 102_400 + 10_240])
def test_a_length_that_is_too_short_does_not_pass_for_the_whole(tmp_path, claim):
    with FileServer(OLD, [Fault(claim=claim)]) as server:
        with pytest.raises(UserError, match=r"isn't a whole archive: .*truncated"):
            get(server, tmp_path)
        assert leftovers(tmp_path) == []
        get(server, tmp_path)
    assert (tmp_path / "abo.tar").read_bytes() == OLD


def test_a_length_that_is_too_long_never_completes(tmp_path):
    with FileServer(OLD, [Fault(claim=len(OLD) + 5_000)]) as server:
        found = get(server, tmp_path)
    assert (tmp_path / "abo.tar").read_bytes() == OLD
    assert found.bytes == len(OLD)


def test_without_a_length_the_end_is_the_tars_own(tmp_path):
    with FileServer(OLD, [Fault(drop_after=60_000)], chunked=True) as server:
        get(server, tmp_path)
    assert (tmp_path / "abo.tar").read_bytes() == OLD


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ({"sha256": "0" * 64}, "has the SHA-256"),
        ({"bytes": len(OLD) + 1}, "are recorded"),
    ],
)
def test_other_content_than_recorded_is_refused_with_what_to_do(tmp_path, known, text):
    with FileServer(OLD) as server, pytest.raises(UserError, match=text) as error:
        get(server, tmp_path, **known)
    assert "try again" in str(error.value)
    assert ".lock.json" in str(error.value)
    assert leftovers(tmp_path) == []


def test_a_file_that_is_there_is_checked_and_never_removed(tmp_path):
    (tmp_path / "abo.tar").write_bytes(NEW)
    with FileServer(OLD) as server:
        with pytest.raises(UserError, match="Delete it and run this again"):
            get(server, tmp_path, sha256=SHA)
        assert (tmp_path / "abo.tar").read_bytes() == NEW
        (tmp_path / "abo.tar").write_bytes(OLD)
        assert get(server, tmp_path, sha256=SHA).bytes == len(OLD)
        assert server.seen == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_wrong_address_is_not_tried_again(tmp_path, status):
    with FileServer(OLD, [Fault(status=status)]) as server:
        with pytest.raises(UserError, match=f"answers {status}"):
            get(server, tmp_path)
        assert len(server.seen) == 1


@pytest.mark.parametrize("url", ["ftp://x/y", "nonsense", "http://"])
def test_an_address_that_is_none(tmp_path, url):
    with pytest.raises(UserError, match="isn't an address to download from"):
        download_archive(DownloadConfig(url=url), tmp_path / "abo.tar", QUICK)


def test_nobody_there(tmp_path):
    with pytest.raises(
        RetryLaterError, match=r"refuses the connection, 3 times in a row. Nothing has arrived"
    ):
        download_archive(DownloadConfig(url="http://127.0.0.1:9/x"), tmp_path / "abo.tar", QUICK)


def test_a_disk_that_is_too_small_is_noticed_before_it_is_full(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with FileServer(OLD) as server, pytest.raises(UserError, match="1,000 bytes free"):
        get(server, tmp_path)


def test_two_at_once_do_not_mix(tmp_path):
    with (
        FileServer(OLD) as server,
        lock_folder(tmp_path),
        pytest.raises(UserError, match="another process"),
    ):
        get(server, tmp_path)


def test_bytes_of_another_address_are_not_taken_up(tmp_path):
    faults = [Fault(drop_after=70_000), *[Fault(status=500)] * 3]
    with FileServer(OLD, faults) as server, pytest.raises(RetryLaterError):
        get(server, tmp_path)
    with FileServer(NEW) as other:
        get(other, tmp_path)
        assert "Range" not in other.seen[0]
    assert (tmp_path / "abo.tar").read_bytes() == NEW


class Chunks:
    """An answer's body that comes in pieces; before each, something happens."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)
        self.raw = self

    def read1(self, size):
        if not self.pieces:
            return b""
        happens, piece = self.pieces.pop(0)
        happens()
        return piece


def test_disk_that_takes_a_part_of_a_piece_makes_no_hole(tmp_path):
    """The system may write less than it is given, and more of the next piece."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    answer = Chunks((limit(90_000), OLD[:100_000]), (limit(soft), OLD[100_000:]))
    partial = PartialDownload(tmp_path / ".abo.tar.part", "http://127.0.0.1")
    try:
        with pytest.raises(OSError, match=r"\.abo\.tar\.part") as refused:
            append_body(answer, partial)
    finally:
        limit(soft)()
    assert refused.value.errno in system_errors.DISK_FULL_ERRNOS
    written = partial.path.read_bytes()
    assert written == OLD[: len(written)]
