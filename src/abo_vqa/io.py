"""Files: atomic writes, tables that keep "None" an answer, fingerprints, the scratch folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from abo_vqa.errors import UserError
from abo_vqa.refusals import FORBIDDEN, full_disk, nearest

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


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


def read_table(path: str | Path, required: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV as strings: "None", "NA" and "" stay what they are.

    Raises:
        UserError: the file is missing, isn't a proper CSV (see `csvfile`), or doesn't have each
            required column once.
    """
    from abo_vqa.csvfile import read_csv

    parsed = read_csv(path)
    table = parsed.frame
    if doubled := [name for name in parsed.doubled if name in required]:
        raise UserError(f"{path} has several columns called {doubled[0]}. Remove all but one.")
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise UserError(
            f"{path} lacks the column(s) {', '.join(missing)}; "
            f"it has {', '.join(map(str, table.columns))}."
        )
    return table


def write_table(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a CSV atomically with Unix line ends, without the index."""
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    return Path(path)


def read_json(path: str | Path) -> Any:
    """Parse a JSON file; a missing or broken one is a UserError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"no file at {path}. Run the stage that makes it.") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path} isn't valid JSON: {error}") from error


def write_json(value: Any, path: str | Path) -> Path:
    """Write JSON atomically, readable in a diff; NaN is refused (it isn't JSON)."""
    with atomic_write(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    return Path(path)


def write_results(
    value: Any, path: str | Path, digits: Mapping[str, str] = MappingProxyType({})
) -> Path:
    """Write numbers that git and people compare, with six decimals unless `digits` says otherwise.

    Another processor sums in another order: what differs for that reason stays out of the file.

    Args:
        digits: how numbers under a key are written, as a format: {"loss": ".3f", "lr": ".6g"}.
    """
    return write_json(rounded(value, digits), path)


def rounded(value: Any, digits: Mapping[str, str] = MappingProxyType({}), form: str = ".6f") -> Any:
    """A JSON-like value with its floats rounded, in dicts, lists and tuples too.

    Args:
        digits: formats for what is under certain keys; form: the others' format.
    """
    if isinstance(value, Mapping):
        return {key: rounded(item, digits, digits.get(key, form)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits, form) for item in value]
    # -0.0 is another text for the same number.
    return float(format(float(value), form)) + 0.0 if isinstance(value, float) else value


def fingerprint(value: Any) -> str:
    """16 hex digits of the SHA-256 of `value` as canonical JSON (keys sorted)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_md5(path: str | Path) -> str:
    """MD5 of a file's bytes: the hash DVC records for it."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "md5").hexdigest()


def own_code(parts: Iterable[str]) -> dict[str, str]:
    """Digests of this package's source files that determine what is in a journal, for its key.

    Args:
        parts: files and folders, as dvc.yaml lists them but without src/abo_vqa: "embed.py".
    """
    here = Path(__file__).parent
    places = [here / part for part in parts]
    files = [f for place in places for f in (sorted(place.rglob("*.py")) or [place])]
    return {f.relative_to(here).as_posix(): file_md5(f) for f in files}


def content_digest(path: Path) -> str:
    """A digest of a file's bytes, or of all files' in a folder."""
    if path.is_file():
        return file_md5(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return fingerprint([(str(f.relative_to(path)), file_md5(f)) for f in files])


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


def project_root() -> Path:
    """The main checkout: `DVC_ROOT` (set by DVC, also in a temporary workspace), else the nearest
    parent folder with a dvc.yaml, else the current folder."""
    if root := os.environ.get("DVC_ROOT"):
        return Path(root)
    here = Path.cwd()
    return next((p for p in (here, *here.parents) if (p / "dvc.yaml").is_file()), here)


def cache_folders() -> list[Path]:
    """Where journals and downloads may lie: in the checkout, else in the user's own cache.

    The second is for a checkout that can be read only; it has a folder for each checkout. A user
    without a home (`nobody`, a container's number without a name) has it among the temporary files.
    """
    root = project_root()
    named = os.environ.get("XDG_CACHE_HOME")
    own = [Path(named or os.path.expanduser("~/.cache")) / "abo-vqa"]  # noqa: PTH111
    if not named and hasattr(os, "getuid"):
        temporary = Path(tempfile.gettempdir()) / f"abo-vqa-{os.getuid()}"
        if not temporary.exists() or temporary.stat().st_uid == os.getuid():  # else it's a trap
            own.append(temporary)
    checkout = fingerprint(str(root.resolve()))
    # "~" stays where nobody knows the user's home.
    return [root / ".cache" / "abo-vqa", *(f / checkout for f in own if f.is_absolute())]


def cache(*parts: str) -> Path:
    """Make a folder in the first of `cache_folders` that can be written to.

    Raises:
        OSError: none can; it is about the first one.
    """
    first: OSError | None = None
    for base in cache_folders():
        folder = base.joinpath(*parts)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        except OSError as error:
            if first is None and error.errno not in FORBIDDEN:
                raise
            first = first or error
    assert first is not None
    raise first


def scratch(stage: str, key: str) -> Path:
    """Folder for journals and checkpoints that must outlive a stage's outputs.

    DVC deletes a stage's outputs before it runs, so what a resume needs lives beside the
    pipeline, under a key derived from everything that determines the result.
    """
    return cache(stage, key)


def progress(
    items: Iterable[T], *, total: int | None = None, desc: str = "", unit: str = "it"
) -> Iterable[T]:
    """Show progress on stderr; in a log file a line every 10 s instead of a repainted bar."""
    import sys

    from tqdm import tqdm

    interval = 0.2 if sys.stderr.isatty() else 10.0
    bar: Iterable[T] = tqdm(items, total=total, desc=desc, unit=unit, mininterval=interval)
    return bar
