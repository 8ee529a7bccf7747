"""WordNet 3.0 for METEOR and WUP: found, downloaded, or unpacked from Debian's package."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import zipfile
import zlib
from io import StringIO
from pathlib import Path

import nltk
from filelock import FileLock
from nltk.data import PathPointer

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_folder
from abo_vqa.core.log import get_logger
from abo_vqa.core.scratch import cache, cache_folders

logger = get_logger(__name__)

_PACKAGE = "wordnet-base"
_TIMEOUT_S = 20  # without an answer until a server counts as unreachable
# What METEOR and WUP can't do without.
FILES = ("lexnames", *(f"{kind}.{part}" for kind in ("index", "data") for part in (
    "noun", "verb", "adj", "adv")))  # fmt: skip
# The 45 lexicographer files with their part of speech (1 noun, 2 verb, 3 adjective, 4 adverb), as
# the manual page lexnames(5WN) lists them. Debian's package lacks the file, which NLTK reads.
_ADJECTIVES = ("all", "pert")
_ADVERBS = ("all",)
_NOUNS = (
    "Tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event",
    "feeling", "food", "group", "location", "motive", "object", "person", "phenomenon", "plant",
    "possession", "process", "quantity", "relation", "shape", "state", "substance", "time",
)  # fmt: skip
_VERBS = (
    "body", "change", "cognition", "communication", "competition", "consumption", "contact",
    "creation", "emotion", "motion", "perception", "possession", "social", "stative", "weather",
)  # fmt: skip


def data_folder() -> Path:
    """Return the folder of a downloaded or unpacked WordNet, outside the pipeline's outputs."""
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
    """Find WordNet, and download it where it isn't installed.

    Returns:
        NLTK's pointer to it.

    Raises:
        UserError: it isn't installed, and neither a download nor Debian's package works.
    """
    if pointer := find_wordnet():
        return pointer
    with FileLock(data_folder() / ".lock"):
        for source in (find_wordnet, download_wordnet, unpack_debian):
            if pointer := source():
                return pointer
    raise UserError(
        "METEOR, WUP and the base forms of answers need WordNet 3.0, which isn't installed: it "
        "isn't in NLTK's data folders "
        f"({data_folder()} is one), and neither NLTK's download nor Debian's package {_PACKAGE} "
        "worked. On a machine with network run `python -m nltk.downloader wordnet`, and copy its "
        f"nltk_data/corpora/wordnet.zip to {data_folder() / 'corpora'} here."
    )


def download_wordnet() -> PathPointer | None:
    """Download WordNet with NLTK's own downloader.

    Returns:
        NLTK's pointer to it, None where the server can't be reached.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        # Into another folder first: a partial download must not look like a WordNet.
        with tempfile.TemporaryDirectory(dir=data_folder()) as name:
            nltk.download("wordnet", download_dir=name, quiet=True, print_error_to=StringIO())
            archive = Path(name) / "corpora" / "wordnet.zip"
            if archive.is_file() and zipfile.is_zipfile(archive):
                target = data_folder() / "corpora" / archive.name
                target.parent.mkdir(exist_ok=True)
                archive.replace(target)
                shutil.rmtree(target.with_suffix(""), ignore_errors=True)  # a damaged one
    except (OSError, ValueError):
        return None
    finally:
        socket.setdefaulttimeout(before)
    return find_wordnet()


def unpack_debian() -> PathPointer | None:
    """Download and unpack Debian's package, without root and without installing anything.

    Returns:
        NLTK's pointer to it, None where that isn't possible.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "archives" / "partial").mkdir(parents=True)
        timeout = ["-o", f"Acquire::http::Timeout={_TIMEOUT_S}", "-o", "Acquire::Retries=1"]
        own_lists = [
            "-o", f"Dir::State::Lists={folder / 'lists'}",
            "-o", f"Dir::Cache={folder}",
            "-o", "Debug::NoLocking=1",
            "-o", "APT::Sandbox::User=",
        ]  # fmt: skip
        # With the system's package lists if it has any, else with freshly downloaded ones.
        for arguments in (
            ["download", _PACKAGE],
            [*own_lists, "update"],
            [*own_lists, "download", _PACKAGE],
        ):
            command = ["apt-get", "-qq", *timeout, *arguments]
            subprocess.run(command, cwd=folder, capture_output=True, check=False)
            if package := next(folder.glob(f"{_PACKAGE}_*.deb"), None):
                return unpack(package, folder / "tree")
    return None


def unpack(package: Path, tree: Path) -> PathPointer | None:
    """Put a Debian package's WordNet where NLTK looks, complete or not at all.

    The caller holds the folder's lock (`ensure_wordnet`): two processes never share the unfinished
    folder.

    Args:
        package: the .deb file.
        tree: folder to unpack it to.

    Returns:
        NLTK's pointer to it, None if the package lacks files.
    """
    subprocess.run(["dpkg-deb", "-x", str(package), str(tree)], check=False)
    source = tree / "usr" / "share" / "wordnet"
    if not all((source / name).is_file() for name in ("data.noun", "index.noun", "data.adv")):
        return None
    (source / "lexnames").write_text(lexnames())
    target = data_folder() / "corpora" / "wordnet"
    with atomic_folder(target) as staged:  # in place of a damaged one
        shutil.copytree(source, staged, dirs_exist_ok=True)
    return _pointer(target)


def lexnames() -> str:
    """Make the lexnames file: number, name and part of speech, tab-separated, in its order."""
    groups = (
        ("adj", 3, _ADJECTIVES), ("adv", 4, _ADVERBS), ("noun", 1, _NOUNS), ("verb", 2, _VERBS),
    )  # fmt: skip
    names = [(f"{kind}.{name}", part) for kind, part, group in groups for name in group]
    names.append(("adj.ppl", 3))
    return "".join(f"{i:02d}\t{name}\t{part}\n" for i, (name, part) in enumerate(names))
