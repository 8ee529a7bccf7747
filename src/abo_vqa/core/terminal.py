"""Printing to stdout and stderr that never fails.

A stage prints its last line when its work is done. Neither a terminal that isn't UTF-8 nor a reader
that has left (`abo-vqa … | head -1`) may turn that into a failure. A line is out as soon as it is
printed, so that it shows up in a log that is being followed, and no signal can lose it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _NonRaisingFile(FileIO):
    """A descriptor whose writes never raise; the first error is kept in `failure`."""

    failure: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, and pretend to have written what is refused."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(data).nbytes


def _non_raising(stream: TextIO | None) -> TextIO | None:
    r"""Put the stream on a `_NonRaisingFile`, with escapes (`\u2192`) for what it can't encode.

    Returns:
        The new stream; None for one without a descriptor of its own: closed, a notebook's, a
        test's.
    """
    if not isinstance(stream, TextIOWrapper):
        return None
    raw = getattr(stream.buffer, "raw", stream.buffer)  # unbuffered under PYTHONUNBUFFERED
    if not isinstance(raw, FileIO):
        return None
    file = _NonRaisingFile(raw.fileno(), "w", closefd=False)
    return TextIOWrapper(
        BufferedWriter(file),
        encoding=stream.encoding,
        errors="backslashreplace",
        # Even where Python has it otherwise: standard error isn't under PYTHONUNBUFFERED, which
        # would leave the lines to the buffer above, nor is standard output in a file or a pipe.
        line_buffering=True,
    )


@contextmanager
def non_raising_streams() -> Iterator[None]:
    """Make printing to sys.stdout and sys.stderr never raise while the block runs."""
    with ExitStack() as undo:
        for name in ("stdout", "stderr"):
            before: TextIO | None = getattr(sys, name)
            stream = _non_raising(before)
            if before is not None and stream is not None:
                before.flush()
                setattr(sys, name, stream)
                undo.callback(setattr, sys, name, before)
                undo.callback(stream.flush)
        yield


def output_lost() -> str:
    """Explain why a part of standard output is lost; "" if nothing is, or its reader has left."""
    if not isinstance(sys.stdout, TextIOWrapper):
        return ""
    sys.stdout.flush()
    failure = getattr(getattr(sys.stdout.buffer, "raw", None), "failure", None)
    if failure is None or isinstance(failure, BrokenPipeError):
        return ""
    return str(failure.strerror).lower()
