"""WordNet 3.0 for METEOR and WUP: found, downloaded, or unpacked from Debian's package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from io import StringIO
from pathlib import Path
from typing import Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.scratch import cache, cache_folders

_PACKAGE = "wordnet-base"
_SECONDS = 20  # without an answer before a server counts as unreachable
# The 45 lexicographer files with their part of speech (1 noun, 2 verb, 3 adjective, 4 adverb), as
# the manual page lexnames(5WN) lists them. The package leaves the file out, NLTK's reader wants it.
FILES = ("lexnames", *(f"{kind}.{part}" for kind in ("index", "data") for part in (
    "noun", "verb", "adj", "adv")))  # what METEOR and WUP can't do without  # fmt: skip
ADJECTIVES = ("all", "pert")
_ADVERBS = ("all",)
_NOUNS = (
    "Tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event",
    "feeling", "food", "group", "location", "motive", "object", "person", "phenomenon", "plant",
    "possession", "process", "quantity", "relation", "shape", "state", "substance", "time",
)  # fmt: skip
VERBS = (
    "body", "change", "cognition", "communication", "competition", "consumption", "contact",
    "creation", "emotion", "motion", "perception", "possession", "social", "stative", "weather",
)  # fmt: skip


def data_folder() -> Path:
    """Where a downloaded or unpacked WordNet lives: outside the pipeline's outputs."""
    return cache("nltk_data")


def find() -> Any:
    """NLTK's pointer to an installed WordNet, None if there is none that is whole.

    A broken one is named on stderr, and the next folder is looked at.
    """
    import nltk

    for folder in cache_folders():
        own = str(folder / "nltk_data")
        if own not in nltk.data.path:  # NLTK refuses corpora from anywhere else
            nltk.data.path.append(own)
    for base in nltk.data.path:
        for name in ("wordnet", "wordnet.zip"):
            path = Path(base) / "corpora" / name
            if not os.path.lexists(path):
                continue
            if reason := damage(path):
                print(f"WordNet: {reason}; going on with the next source.", file=sys.stderr)
                continue
            return _pointer(path)
    return None


def _pointer(path: Path) -> Any:
    """NLTK's pointer to the WordNet in a folder or an archive."""
    import nltk

    inside = "/wordnet/" if path.suffix == ".zip" else ""
    return nltk.data.find(f"corpora/{path.name}{inside}", paths=[str(path.parent.parent)])


def damage(path: Path) -> str:
    """Which file of a WordNet is missing or cut off; "" if it is whole."""
    try:
        if path.suffix != ".zip":
            broken = next((f for n in FILES if not _ends_in_a_line(f := path / n)), None)
            return "" if broken is None else f"{broken} is missing or cut off"
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
            absent = next((n for n in FILES if f"wordnet/{n}" not in archive.namelist()), bad)
            return "" if absent is None else f"{path} lacks {absent}, or it is damaged"
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        return f"{path} is cut off or no zip archive ({error})"
    except OSError as error:
        return f"{path} can't be read ({error.strerror})"


def _ends_in_a_line(file: Path) -> bool:
    """Whether a text file is there and its last line is complete."""
    if not file.is_file() or not file.stat().st_size:
        return False
    with file.open("rb") as text:
        text.seek(-1, os.SEEK_END)
        return text.read() == b"\n"


def ensure_wordnet() -> Any:
    """NLTK's pointer to WordNet; fetches it where it isn't installed.

    Raises:
        UserError: it isn't installed, and neither a download nor Debian's package works.
    """
    from filelock import FileLock

    if place := find():
        return place
    with FileLock(data_folder() / ".lock"):
        for attempt in (find, download, unpack_debian):
            if place := attempt():
                return place
    raise UserError(
        "METEOR and WUP need WordNet 3.0, and there is none: it isn't in NLTK's data folders "
        f"({data_folder()} is one), NLTK's download failed, and so did Debian's package {_PACKAGE}. "
        "On a machine with network run `python -m nltk.downloader wordnet`, and copy its "
        f"nltk_data/corpora/wordnet.zip to {data_folder() / 'corpora'} here."
    )


def download() -> Any:
    """Fetch with NLTK's own downloader; None where its server can't be reached."""
    import socket

    import nltk

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS)
    try:
        # Elsewhere first: a download that stops half-way must not look like a WordNet.
        with tempfile.TemporaryDirectory(dir=data_folder()) as name:
            nltk.download("wordnet", download_dir=name, quiet=True, print_error_to=StringIO())
            archive = Path(name) / "corpora" / "wordnet.zip"
            if archive.is_file() and zipfile.is_zipfile(archive):
                target = data_folder() / "corpora" / archive.name
                target.parent.mkdir(exist_ok=True)
                archive.replace(target)
                shutil.rmtree(target.with_suffix(""), ignore_errors=True)  # a broken one
    except (OSError, ValueError):
        return None
    finally:
        socket.setdefaulttimeout(before)
    return find()


def unpack_debian() -> Any:
    """Fetch and unpack Debian's package, without root and without installing anything."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "archives" / "partial").mkdir(parents=True)
        patience = ["-o", f"Acquire::http::Timeout={_SECONDS}", "-o", "Acquire::Retries=1"]
        own = [
            "-o", f"Dir::State::Lists={folder / 'lists'}",
            "-o", f"Dir::Cache={folder}",
            "-o", "Debug::NoLocking=1",
            "-o", "APT::Sandbox::User=",
        ]  # fmt: skip
        # The system's lists of packages, if it has any; else lists of our own.
        for arguments in (["download", _PACKAGE], [*own, "update"], [*own, "download", _PACKAGE]):
            command = ["apt-get", "-qq", *patience, *arguments]
            subprocess.run(command, cwd=folder, capture_output=True, check=False)
            if package := next(folder.glob(f"{_PACKAGE}_*.deb"), None):
                return unpack(package, folder / "tree")
    return None


def unpack(package: Path, tree: Path) -> Any:
    """Put the package's WordNet where NLTK looks, complete or not at all."""
    subprocess.run(["dpkg-deb", "-x", str(package), str(tree)], check=False)
    source = tree / "usr" / "share" / "wordnet"
    if not all((source / name).is_file() for name in ("data.noun", "index.noun", "data.adv")):
        return None
    (source / "lexnames").write_text(lexnames())
    target = data_folder() / "corpora" / "wordnet"
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".wordnet-{os.getpid()}")
    shutil.copytree(source, staged)
    shutil.rmtree(target, ignore_errors=True)  # a broken one
    staged.rename(target)
    return _pointer(target)


def lexnames() -> str:
    """The lexnames file: number, name and part of speech, tab-separated, in WordNet's order."""
    groups = (("adj", 3, ADJECTIVES), ("adv", 4, _ADVERBS), ("noun", 1, _NOUNS), ("verb", 2, VERBS))
    names = [(f"{kind}.{name}", part) for kind, part, group in groups for name in group]
    names.append(("adj.ppl", 3))
    return "".join(f"{i:02d}\t{name}\t{part}\n" for i, (name, part) in enumerate(names))
