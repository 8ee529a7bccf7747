"""Files of an archive, decompressed in chunks; damage is told from what isn't gzip at all."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from isal import igzip_threaded  # Intel's inflate, ahead of the parser in a thread of its own
from isal.igzip_lib import IsalError

from abo_vqa.core.errors import UserError

_MAX_UNPACKED_SIZE = 1 << 29  # bytes of one file; ABO's largest has a tenth of that
_CHUNK_SIZE = 4 << 20  # bytes of JSON decoded at a time: little memory, and few calls


def iter_decompressed(data: bytes, name: str, where: Path | str) -> Iterator[bytes]:
    """Yield a file's content in chunks, decompressed if its name ends in .gz.

    Args:
        data: the file's bytes.
        name: the file's name.
        where: the archive, for messages.

    Raises:
        UserError: the gzip stream is damaged, cut off, or followed by something else.
    """
    if not name.endswith(".gz"):
        yield data
        return
    try:
        if not data:
            raise EOFError("the file is empty")
        size = 0
        with igzip_threaded.open(io.BytesIO(data), "rb") as stream:
            while chunk := stream.read(_CHUNK_SIZE):
                size += len(chunk)
                if size > _MAX_UNPACKED_SIZE:
                    raise OverflowError(f"it unpacks to more than {_MAX_UNPACKED_SIZE:,} bytes")
                yield chunk
    except (EOFError, OverflowError, gzip.BadGzipFile, IsalError) as error:  # type: ignore[misc]
        # (isal's stub declares the error an instance)
        fault = str(error) if isinstance(error, OverflowError) else _not_gzip(data) or str(error)
        raise UserError(
            f"{name} in {where} is damaged ({fault}). Delete {where} and fetch it again."
        ) from error


def _not_gzip(data: bytes) -> str:
    """Say what isn't gzip in a file that can't be decompressed; "" if it is cut off or damaged.

    The reader takes whatever follows the last stream for the beginning of another, cut-off one.
    """
    magic, rest = b"\x1f\x8b", data
    if data and not data.startswith(magic):
        return "it isn't gzip"
    while rest.startswith(magic):
        stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        left = rest
        try:
            while left and not stream.eof:
                stream.decompress(left, _CHUNK_SIZE)
                left = stream.unconsumed_tail
        except zlib.error:
            break
        if not stream.eof:
            return ""
        rest = stream.unused_data
    behind = len(rest)
    return "" if behind in (0, len(data)) else f"{behind:,} byte(s) that aren't gzip follow its end"
