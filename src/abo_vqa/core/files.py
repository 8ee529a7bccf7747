"""Atomic writes of files and folders, and checks of where a command may write."""

from __future__ import annotations

import codecs
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from abo_vqa.core.errors import UserError
from abo_vqa.core.system_errors import full_disk, nearest_existing


def decode_text(data: bytes) -> str:
    """Decode UTF-8, with or without its byte order mark, or UTF-16 with one, as Excel writes it.

    Args:
        data: a text file's bytes.

    Raises:
        UnicodeDecodeError: They are in another encoding.
    """
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_utf16 else "utf-8-sig")


def read_utf8(path: Path) -> str:
    """Read a text file that people may have written.

    Args:
        path: the file.

    Raises:
        UserError: It isn't UTF-8.
        OSError: It is missing, or can't be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} isn't UTF-8 text ({error.reason} at byte {error.start}). Save it in UTF-8."
        ) from error


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write a file through a temporary one that is renamed over it if the block succeeds.

    A reader sees the old file or the whole new one, whenever the process is killed. The temporary
    name keeps the suffix, since many libraries choose a format by it.

    Args:
        path: the file.

    Yields:
        The temporary file, beside `path`.

    Raises:
        OSError: The system refuses the file; `filename` is `path`, and a full disk is recognised
            behind whatever exception a library makes of it.
    """
    path = Path(path)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
    os.close(handle)
    temporary = Path(name)
    try:
        with _named(path):
            yield temporary
            _flush(temporary)
            # mkstemp makes files private; outputs get the permissions of an ordinary new file.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Write a folder as a whole, in place of an earlier one.

    If the block fails, the earlier folder stays. A process that is killed leaves at most hidden
    folders beside it, which the next call removes.

    Args:
        path: the folder.

    Yields:
        An empty folder beside `path`, which takes its place if the block succeeds.
    """
    path = Path(path)
    staged = path.with_name(f".{path.name}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        yield staged
        replace_folder(staged, path)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def replace_folder(staged: Path, path: Path) -> None:
    """Put a finished folder in the place of an earlier one, or of a file, if there is one.

    Args:
        staged: the finished folder, beside `path`.
        path: its place.
    """
    old = path.with_name(f".{path.name}.old")
    _remove(old)
    for file in staged.rglob("*"):
        if file.is_file():
            _flush(file)
    try:
        if path.exists():
            path.rename(old)
        staged.rename(path)
    finally:
        _remove(old)


def _remove(path: Path) -> None:
    """Remove a file or folder if it is there."""
    if path.is_file():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def _flush(path: Path) -> None:
    """Write a file to the disk: a rename must not reach it before the contents do."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name `path`, not the temporary file beside it, in what the system refuses in the block."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) or error.errno is None:
            if full := full_disk(path.parent):  # torch and NumPy have their own words for it
                raise OSError(full.errno, full.strerror, str(path)) from error
        elif error.filename is None or Path(error.filename).name.startswith(f".{path.stem}-"):
            error.filename, error.filename2 = str(path), None
        raise


def refuse_overwriting(inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
    """Check that a command wouldn't overwrite what it reads.

    Args:
        inputs: the files it reads.
        outputs: the files it writes.

    Raises:
        UserError: One of the inputs is an output as well.
    """
    written = {path.resolve() for path in outputs}
    for source in inputs:
        if source.resolve() in written:
            raise UserError(f"{source} would be overwritten: choose another --out.")


def refuse_unwritable(out: Path, content: str, option: str = "--out") -> None:
    """Check before hours of work, not after them, that a file can be written.

    Args:
        out: the file.
        content: what the file is for, in words.
        option: the command's option that names it.

    Raises:
        UserError: It is a folder, and not of a large table's parts.
        OSError: The system refuses a file there.
    """
    if out.is_dir() and not any(out.glob("part-*.parquet")):
        raise UserError(f"{option} {out} is a folder; it names the file for {content}.")
    try:
        with tempfile.TemporaryFile(dir=nearest_existing(out.absolute().parent)):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(out)) from error
