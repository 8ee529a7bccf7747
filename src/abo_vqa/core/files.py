"""Files: atomic writes, tables that keep "None" an answer, fingerprints, the scratch folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError
from abo_vqa.core.system_errors import full_disk, nearest

if TYPE_CHECKING:
    pass


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` if the block succeeds.

    A reader sees the old file or the whole new one, whenever the process is killed.
    The temporary name keeps the suffix, since many libraries choose a format by it.

    Raises:
        OSError: the system refuses the file; `filename` is `path`, and a full disk is seen behind
            whatever exception a library makes of it.
    """
    path = Path(path)
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
    os.close(handle)
    temporary = Path(name)
    try:
        with named(path):
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            # mkstemp makes files private; outputs get the permissions of an ordinary new file.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Name `path`, not the temporary file beside it, in what the system refuses in the block."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) or error.errno is None:
            if full := full_disk(path.parent):  # torch and NumPy have words of their own for it
                raise OSError(full.errno, full.strerror, str(path)) from error
        elif error.filename is None or Path(error.filename).name.startswith(f".{path.stem}-"):
            error.filename, error.filename2 = str(path), None
        raise


def refuse_overwriting(inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
    """Raise UserError if one of a command's own inputs is also what it would write."""
    written = {path.resolve() for path in outputs}
    for given in inputs:
        if given.resolve() in written:
            raise UserError(f"{given} would be overwritten: choose another --out.")


def refuse_unwritable(out: Path, content: str, option: str = "--out") -> None:
    """Find out before hours of work, not after them, that there is no writing to a file.

    Args:
        content: what the file is for, in words.
        option: the command's option that names it.
    Raises:
        UserError: it is a folder. OSError: the system won't have a file there.
    """
    if out.is_dir():
        raise UserError(f"{option} {out} is a folder; it names the file for {content}.")
    try:
        with tempfile.TemporaryFile(dir=nearest(out.absolute().parent)):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(out)) from error
