from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.data.pairs import Pair, Reject
from abo_vqa.remote.contract import Usage
from abo_vqa.remote.history import own_history
from abo_vqa.remote.journal import AnnotationJournal, JournalEntry, read_journal

ENTRY = JournalEntry(
    "00/1.jpg", "k1", (Pair("What is it?", "mug", "type"),), (Reject("a", "é\n", "language"),),
    "STOP", usage=Usage(10, 5), model="m", time=1.5,
)  # fmt: skip


def filled(path: Path, n: int = 3) -> Path:
    with AnnotationJournal(path, {"model": "m"}) as journal:
        for i in range(n):
            journal.append(JournalEntry(f"00/{i}.jpg", "k"))
    return path


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a" / "main.jsonl"
    with AnnotationJournal(path, {"model": "m"}, (2, 5)) as journal:
        journal.append(ENTRY)
        assert read_journal(path).entries == [ENTRY]  # on disk before append returns
    contents = read_journal(path)
    assert contents.header["settings"] == {"model": "m"}
    assert contents.header["shard"] == [2, 5]
    assert ENTRY.candidates == [Pair("What is it?", "mug", "type"), Pair("a", "é\n")]


def test_lines_keep_their_form(tmp_path: Path) -> None:
    """Journals that teams have paid for are read for good, also by other versions."""
    line = (
        '{"image":"00/1.jpg","key":"k1","pairs":[{"question":"What is it?","answer":"mug",'
        '"kind":"type"}],"rejects":[{"question":"a","answer":"é\\n","reason":"language"}],'
        '"finish":"STOP","problem":"","usage":{"input":10,"output":5},"price":1.0,"model":"m",'
        '"time":1.5,"job":""}\n'
    )
    path = tmp_path / "main.jsonl"
    header = '{"abo_vqa_journal": 1, "shard": null, "settings": {"model": "m"}}\n'
    path.write_text(header + line, encoding="utf-8")
    assert read_journal(path).entries == [ENTRY]
    with AnnotationJournal(path, {"model": "m"}) as journal:
        journal.append(ENTRY)
    assert path.read_text(encoding="utf-8") == header + 2 * line


def test_every_torn_end_is_recovered(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole.jsonl").read_bytes()
    path = tmp_path / "main.jsonl"
    ends = [i for i, byte in enumerate(whole) if byte == ord("\n")]
    near = {end + step for end in ends for step in (-1, 0, 1, 2)}  # where it matters most
    for cut in sorted({*range(1, len(whole), 7), *near} & set(range(1, len(whole)))):
        path.write_bytes(whole[:cut])
        lines = whole[:cut].count(b"\n")
        assert len(read_journal(path).entries) == max(0, lines - 1)
        with AnnotationJournal(path, {"model": "m"}) as journal:
            assert journal.torn == (not whole[:cut].endswith(b"\n"))
            journal.append(ENTRY)
        contents = read_journal(path)
        assert contents.broken == 0
        assert contents.entries[-1] == ENTRY
        assert len(contents.entries) == max(0, lines - 1) + 1


def test_damaged_line_costs_one_reply(tmp_path: Path) -> None:
    path = filled(tmp_path / "main.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + b'\x00\xff{"image"\n' + lines[3])
    contents = read_journal(path)
    assert [entry.image_path for entry in contents.entries] == ["00/0.jpg", "00/2.jpg"]
    assert contents.broken == 1


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "main.jsonl"
    code = (
        "import sys; from pathlib import Path;"
        "from abo_vqa.remote.journal import AnnotationJournal;"
        "journal = AnnotationJournal(Path(sys.argv[1]), {});"
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout
    assert other.stdout.readline() == b"open\n"
    with pytest.raises(UserError, match="another process is generating"):
        AnnotationJournal(path, {})
    other.kill()
    other.communicate()
    AnnotationJournal(path, {}).close()  # a kill leaves no lock behind


def test_something_else_is_not_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "main.jsonl"
    path.write_text('{"image": "x"}\n')
    with pytest.raises(UserError, match="isn't a journal"):
        read_journal(path)
    path.write_text(json.dumps({"abo_vqa_journal": 99}) + "\n")
    with pytest.raises(UserError, match="version 99"):
        read_journal(path)


def test_opening_keeps_no_replies_in_memory(tmp_path: Path) -> None:
    """What is in the file is read when it is asked for, and one reply takes few bytes."""
    path = tmp_path / "settings" / "main.jsonl"  # the folder beside it may hold former versions'
    with AnnotationJournal(path, {}) as journal:
        journal.extend([ENTRY] * 2000)
    tracemalloc.start()
    with AnnotationJournal(path, {}) as journal:
        opened = tracemalloc.get_traced_memory()[1]
        assert own_history(journal) == [ENTRY] * 2000
    tracemalloc.stop()
    assert opened < 100_000
    assert not hasattr(ENTRY, "__dict__")
    assert not hasattr(ENTRY.pairs[0], "__dict__")
