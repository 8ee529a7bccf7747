"""WordNet 3.0 for METEOR and WUP: the one that is installed, else the repository's."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import nltk
from filelock import FileLock
from nltk.data import PathPointer

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_folder
from abo_vqa.core.log import get_logger
from abo_vqa.core.scratch import cache, cache_folders, project_root

logger = get_logger(__name__)

# The repository's own: see tools/sample/wordnet.py.
ARCHIVE = Path("samples/wordnet.zip")
_SOURCES = Path(__file__).resolve().parents[3]  # the checkout that this code is in
WORDNET_REMEDY = (
    f"`git restore {ARCHIVE}` brings the repository's back; elsewhere run "
    "`python -m nltk.downloader wordnet`."
)
"""What to do where there is no WordNet."""
# What METEOR and WUP can't do without.
FILES = ("lexnames", *(f"{kind}.{part}" for kind in ("index", "data") for part in (
    "noun", "verb", "adj", "adv")))  # fmt: skip


def data_folder() -> Path:
    """Return the folder of an unpacked WordNet, outside the pipeline's outputs."""
    return cache("nltk_data")


def find_wordnet() -> PathPointer | None:
    """Find an installed WordNet; a damaged one is reported and passed over.

    Returns:
        NLTK's pointer to it, None if none is installed.
    """
    for folder in cache_folders():
        own = str(folder / "nltk_data")
        if own not in nltk.data.path:  # NLTK refuses corpora from anywhere else
            nltk.data.path.append(own)
    for base in nltk.data.path:
        for name in ("wordnet", "wordnet.zip"):
            path = Path(base) / "corpora" / name
            if not os.path.lexists(path):
                continue
            if reason := _damage(path):
                logger.warning("WordNet: %s; trying the next source.", reason)
                continue
            return _pointer(path)
    return None


def _pointer(path: Path) -> PathPointer:
    """NLTK's pointer to the WordNet in a folder or an archive."""
    inside = "/wordnet/" if path.suffix == ".zip" else ""
    return nltk.data.find(f"corpora/{path.name}{inside}", paths=[str(path.parent.parent)])


def _damage(path: Path) -> str:
    """Return which file of a WordNet is missing or truncated; "" if it is complete."""
    try:
        if path.suffix != ".zip":
            broken = next((f for n in FILES if not _ends_with_newline(f := path / n)), None)
            return "" if broken is None else f"{broken} is missing or truncated"
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            names = archive.namelist()
            missing = next((n for n in FILES if f"wordnet/{n}" not in names), damaged)
            return "" if missing is None else f"{path} lacks {missing}, or it is damaged"
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        return f"{path} is truncated, or no zip archive ({error})"
    except OSError as error:
        return f"{path} can't be read ({error.strerror})"


def _ends_with_newline(file: Path) -> bool:
    """Whether a text file exists and its last line is complete."""
    if not file.is_file() or not file.stat().st_size:
        return False
    with file.open("rb") as text:
        text.seek(-1, os.SEEK_END)
        return text.read() == b"\n"


def ensure_wordnet() -> PathPointer:
    """Find WordNet, and unpack the repository's where none is installed.

    Returns:
        NLTK's pointer to it.

    Raises:
        UserError: there is none.
    """
    if pointer := find_wordnet():
        return pointer
    with FileLock(data_folder() / ".lock"):
        if pointer := find_wordnet() or unpack_wordnet():
            return pointer
    raise UserError(
        "METEOR, WUP and the base forms of answers need WordNet 3.0, which isn't here: neither "
        f"NLTK's data folders ({data_folder()} is one) nor the repository's {ARCHIVE} has one that "
        f"is complete. {WORDNET_REMEDY}"
    )


def shipped_wordnet() -> Path | None:
    """Return the repository's archive of WordNet; None if it is missing or damaged."""
    for root in (project_root(), _SOURCES):
        archive = root / ARCHIVE
        if not archive.is_file():
            continue
        if not (reason := _damage(archive)):
            return archive
        logger.warning("WordNet: %s.", reason)
    return None


def unpack_wordnet() -> PathPointer | None:
    """Put the repository's WordNet where NLTK looks, complete or not at all.

    It has no glosses: no metric reads them. The caller holds the folder's lock (`ensure_wordnet`):
    two processes never share the unfinished folder.

    Returns:
        NLTK's pointer to it, None if the archive is missing or damaged.
    """
    archive = shipped_wordnet()
    if archive is None:
        return None
    target = data_folder() / "corpora" / "wordnet"
    with atomic_folder(target) as staged, zipfile.ZipFile(archive) as packed:
        for name in packed.namelist():
            (staged / Path(name).name).write_bytes(packed.read(name))
    return _pointer(target)
