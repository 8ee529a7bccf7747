"""Vision outputs are the same after a kill at any line; what is complete isn't touched again."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from abo_vqa.models.embeddings import files
from tests.support.embedding_builds import (
    KINDS,
    ROOM,
    build,
    build_remote,
    contents,
    make_builder,
)
from tests.support.forks import Fork


def killed_at(line: int, action: Callable[[], object]) -> bool:
    """Run in a process that SIGKILL ends at the n-th line of our code; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = line

        def count(frame, event, _argument):
            nonlocal left
            if "abo_vqa" not in frame.f_code.co_filename:
                return None
            left -= event == "line"
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return count

        sys.settrace(count)
        action()
        sys.settrace(None)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def complete(kind: str, place: Path) -> dict[Path, tuple[int, bytes]]:
    """The shards that the scratch folder's record says are complete: no other run changes them."""
    work = place / "work"
    if not work.is_dir():
        return {}
    shards = make_builder(kind, work, place / "out").complete
    return {s.file: (s.file.stat().st_mtime_ns, s.file.read_bytes()) for s in shards}


def kill_everywhere(kind: str, place: Path, stride: int) -> None:
    """For a process without threads: kill a build at each n-th line, and finish it."""
    files.SHARD_BYTES = ROOM
    build(kind, place / "whole", 4)
    whole = contents(place / "whole/out")
    line, kept = stride, 0
    while killed_at(line, partial(build, kind, place / str(line), 4)):
        before = complete(kind, place / str(line))
        shutil.rmtree(place / str(line) / "out", ignore_errors=True)  # as DVC does
        build(kind, place / str(line), 4)
        assert contents(place / str(line) / "out") == whole, line
        for file, state in before.items():
            assert (file.stat().st_mtime_ns, file.read_bytes()) == state, (line, file)
        kept += len(before)
        line += stride
    assert line > 15 * stride
    assert kept > 15


def kill_everywhere_with_uploads(kind: str, place: Path, stride: int) -> None:
    """The same where shards go to a store; kills fall anywhere in what another thread sends."""
    files.SHARD_BYTES = ROOM
    store = place / "store"
    store.mkdir()
    build_remote(kind, place / "whole", 4, f"file://{store}")
    whole, stored = contents(place / "whole/out"), contents(store)
    assert list((place / "whole/work").glob("*.npy")) == []
    line, kept = stride, 0
    while True:
        shutil.rmtree(store)
        store.mkdir()
        here = place / str(line)
        if not killed_at(line, partial(build_remote, kind, here, 4, f"file://{store}")):
            break
        shutil.rmtree(here / "out", ignore_errors=True)
        times = {file: file.stat().st_mtime_ns for file in store.glob("*.npy")}
        before = build_remote(kind, here, 4, f"file://{store}")
        assert contents(here / "out") == whole, line
        assert contents(store) == stored, line
        for shard in before:  # not sent again
            assert (store / shard.file).stat().st_mtime_ns == times[store / shard.file], line
        kept += len(before)
        line += stride
    assert line > 15 * stride
    assert kept > 15


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kill", [kill_everywhere, kill_everywhere_with_uploads])
def test_killed_anywhere_and_resumed_to_the_same_bytes(kill, kind: str, tmp_path: Path) -> None:
    process = Fork(kill, kind, tmp_path, 29 if kill is kill_everywhere else 59)
    stderr = process.wait()
    assert process.returncode == 0, stderr[-3000:]
