"""Tars by index: the same members as `tarfile` finds, and nothing from archives that try tricks."""

import io
import os
import random
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.data import members as members_module
from abo_vqa.data.members import FolderMembers, TarMembers, index_path
from abo_vqa.data.tar_index import UnsupportedTarError, build_index, scan_headers, scan_with_tarfile


def write_tar(path, files, layout=tarfile.GNU_FORMAT, extra=()):
    """A tar of {name: bytes}, then `extra` TarInfos without content."""
    with tarfile.open(path, "w", format=layout) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in extra:
            tar.addfile(member)
    return path


def special(name, kind, link=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


@pytest.fixture
def files():
    """Members of every awkward length: 0, just below, at and above a block, and large."""
    rng = random.Random(0)
    sizes = [0, 1, 511, 512, 513, 1024, 5000, 70_000, *(rng.randrange(9000) for _ in range(200))]
    return {f"images/small/{i:02x}/{i:08x}.jpg": rng.randbytes(n) for i, n in enumerate(sizes)}


@pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_every_member_is_read_as_it_was_written(tmp_path, files, layout):
    path = write_tar(tmp_path / "a.tar", files, layout, [special("images/small", tarfile.DIRTYPE)])
    scan_headers(path)  # doesn't need the slow one
    members = TarMembers(path)
    assert list(members.names()) == sorted(files)
    assert {name: members.read(name) for name in files} == files
    assert members.read("images/small/zz/nope.jpg") is None
    members.close()


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        (tarfile.GNU_FORMAT, "x" * 150 + "/long.jpg"),
        (tarfile.PAX_FORMAT, "x" * 150 + "/long.jpg"),
        (tarfile.PAX_FORMAT, "商品.jpg"),
        (tarfile.USTAR_FORMAT, "p" * 90 + "/" + "n" * 90),
    ],
)
def test_long_and_foreign_names_take_the_slow_way(tmp_path, files, layout, name):
    path = write_tar(tmp_path / "a.tar", {**files, name: b"here"}, layout)
    members = TarMembers(path)
    assert members.read(name) == b"here"
    assert {known: members.read(known) for known in files} == files
    members.close()


def test_both_walks_agree(tmp_path, files):
    path = write_tar(tmp_path / "a.tar", files)
    fast, slow = scan_headers(path), scan_with_tarfile(path, path.open("rb"))
    assert fast.names.tolist() == slow.names.tolist()
    assert np.array_equal(fast.offsets, slow.offsets)
    assert np.array_equal(fast.sizes, slow.sizes)


def test_leading_dots_are_dropped_and_the_last_of_equal_names_counts(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"./a/b.jpg": b"old"})
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo("a/b.jpg")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"new"))
    members = TarMembers(path)
    assert members.read("a/b.jpg") == b"new"
    assert len(members.index) == 1
    members.close()


@pytest.mark.parametrize(
    "bad",
    [
        special("/etc/passwd", tarfile.REGTYPE),
        special("images/../../up.jpg", tarfile.REGTYPE),
        special("..", tarfile.REGTYPE),
        special("./../up.jpg", tarfile.REGTYPE),
        special("images/link", tarfile.SYMTYPE, "/etc/passwd"),
        special("images/hard", tarfile.LNKTYPE, "images/small/00/00000000.jpg"),
        special("images/dev", tarfile.CHRTYPE),
        special("images/disk", tarfile.BLKTYPE),
        special("images/pipe", tarfile.FIFOTYPE),
        special("x" * 150 + "/../../up.jpg", tarfile.REGTYPE),
    ],
    ids=lambda member: member.name[-24:],
)
def test_archives_that_try_to_leave_their_folder_are_refused(tmp_path, files, bad):
    path = write_tar(tmp_path / "a.tar", files, extra=[bad])
    with pytest.raises(UserError, match=r"holds .*: refused"):
        TarMembers(path)


def test_names_that_only_look_like_leaving_are_fine(tmp_path):
    members = TarMembers(write_tar(tmp_path / "a.tar", {"a/b..c.jpg": b"1", "..d/e": b"2"}))
    assert (members.read("a/b..c.jpg"), members.read("..d/e")) == (b"1", b"2")
    members.close()


@pytest.mark.parametrize("keep", [700, 5000, 80_000, -1024, -10_000])
def test_a_truncated_archive_is_refused_wherever_it_ends(tmp_path, files, keep):
    path = write_tar(tmp_path / "a.tar", files)
    data = path.read_bytes()
    last = scan_headers(path)
    content_end = int((last.offsets + last.sizes).max())
    path.write_bytes(data[: keep if keep > 0 else content_end + keep])
    with pytest.raises(UserError, match=r"truncated|damaged"):
        build_index(path)


def test_an_archive_cut_at_the_end_of_a_member_is_not_taken_for_whole(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a": b"x" * 512, "b": b"y" * 512})
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(UserError, match="truncated"):
        scan_headers(path)
    with pytest.raises(UserError, match="truncated"):
        scan_with_tarfile(path, path.open("rb"))


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"", "is empty"), (b"<html>not found</html>", "isn't a tar"), (b"x" * 20_000, "isn't a tar")],
)
def test_what_is_no_tar_at_all(tmp_path, content, text):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(UserError, match=text):
        TarMembers(tmp_path / "a.tar")


def test_a_damaged_header_is_noticed_by_its_checksum(tmp_path, files):
    path = write_tar(tmp_path / "a.tar", files)
    data = bytearray(path.read_bytes())
    data[int(scan_headers(path).offsets[50]) - 512] ^= 1  # one bit of one name
    path.write_bytes(data)
    with pytest.raises(UnsupportedTarError):
        scan_headers(path)
    with pytest.raises(UserError, match="damaged"):
        build_index(path)


def test_an_empty_archive_has_no_members(tmp_path):
    assert len(build_index(write_tar(tmp_path / "a.tar", {}))) == 0


def test_a_large_archives_index_is_kept_and_used(tmp_path, files, monkeypatch):
    monkeypatch.setattr(members_module, "MIN_KEPT_MEMBERS", 10)
    path = write_tar(tmp_path / "a.tar", files)
    TarMembers(path).close()
    assert index_path(path).exists()
    with monkeypatch.context() as patch:
        patch.setattr(members_module, "build_index", lambda _: pytest.fail("built again"))
        members = TarMembers(path)
    assert {name: members.read(name) for name in files} == files
    members.close()


def test_a_stale_or_broken_index_is_rebuilt(tmp_path, files, monkeypatch):
    monkeypatch.setattr(members_module, "MIN_KEPT_MEMBERS", 1)
    path = write_tar(tmp_path / "a.tar", files)
    TarMembers(path).close()
    status = path.stat()
    # Same size, same time, other content: what a careless copy leaves behind.
    swapped = dict(zip(files, reversed(files.values()), strict=True))
    write_tar(path, swapped)
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    members = TarMembers(path)
    assert {name: members.read(name) for name in swapped} == swapped
    members.close()
    for junk in (b"", b"junk", index_path(path).read_bytes()[:500]):
        index_path(path).write_bytes(junk)
        members = TarMembers(path)
        assert len(members.index) == len(files)
        members.close()


def test_an_archive_that_changes_under_its_index_is_noticed_when_read(tmp_path, files):
    path = write_tar(tmp_path / "a.tar", files)
    members = TarMembers(path)
    with path.open("r+b") as file:
        file.write(write_tar(tmp_path / "b.tar", {"other": b"z" * 3000}).read_bytes()[:4096])
    with pytest.raises(UserError, match="was changed while it was in use"):
        [members.read(name) for name in files]
    members.close()


def test_without_permission_to_write_the_index_lives_in_memory(tmp_path, files, monkeypatch):
    monkeypatch.setattr(members_module, "MIN_KEPT_MEMBERS", 1)
    path = write_tar(tmp_path / "a.tar", files)
    index_path(path).mkdir()  # can't be replaced by a file, whoever runs this test
    members = TarMembers(path)
    assert len(members.index) == len(files)
    members.close()


def test_threads_read_at_the_same_time(tmp_path, files):
    members = TarMembers(write_tar(tmp_path / "a.tar", files))
    names = list(files) * 20
    random.Random(1).shuffle(names)
    with ThreadPoolExecutor(8) as pool:
        assert all(
            data == files[name]
            for name, data in zip(names, pool.map(members.read, names), strict=True)
        )
    members.close()


def test_a_folder_reads_the_same_and_stays_inside_itself(tmp_path):
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "b.jpg").write_bytes(b"1")
    (tmp_path / "secret").write_bytes(b"2")
    members = FolderMembers(root)
    assert list(members.names()) == ["a/b.jpg"]
    assert members.read("a/b.jpg") == b"1"
    for name in (
        "a/c.jpg",
        "../secret",
        "a/../../secret",
        str(tmp_path / "secret"),
        "a",
        "a/b.jpg/c",
    ):
        assert members.read(name) is None, name
