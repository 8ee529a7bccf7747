"""WordNet 3.0 for METEOR and WUP: found, downloaded, or unpacked from Debian's package."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import zipfile
from io import StringIO
from pathlib import Path
from typing import Any

from abo_vqa.errors import UserError
from abo_vqa.io import project_root

PACKAGE = "wordnet-base"
SECONDS = 20  # without an answer before a server counts as unreachable
# The 45 lexicographer files with their part of speech (1 noun, 2 verb, 3 adjective, 4 adverb), as
# the manual page lexnames(5WN) lists them. The package leaves the file out, NLTK's reader wants it.
ADJECTIVES = ("all", "pert")
ADVERBS = ("all",)
NOUNS = (
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
    return project_root() / ".cache" / "abo-vqa" / "nltk_data"


def find() -> Any:
    """NLTK's pointer to an installed WordNet, None if there is none."""
    import nltk

    own = str(data_folder())
    if own not in nltk.data.path:  # NLTK refuses corpora from anywhere else
        nltk.data.path.append(own)
    for name in ("corpora/wordnet", "corpora/wordnet.zip/wordnet/"):
        try:
            return nltk.data.find(name)
        except LookupError:
            continue
    return None


def ensure_wordnet() -> Any:
    """NLTK's pointer to WordNet; fetches it where it isn't installed.

    Raises:
        UserError: it isn't installed, and neither a download nor Debian's package works.
    """
    from filelock import FileLock

    if place := find():
        return place
    data_folder().mkdir(parents=True, exist_ok=True)
    with FileLock(data_folder() / ".lock"):
        for attempt in (find, download, unpack_debian):
            if place := attempt():
                return place
    raise UserError(
        "METEOR and WUP need WordNet 3.0, and there is none: it isn't in NLTK's data folders "
        f"({data_folder()} is one), NLTK's download failed, and so did Debian's package {PACKAGE}. "
        "On a machine with network run `python -m nltk.downloader wordnet`, and copy its "
        f"nltk_data/corpora/wordnet.zip to {data_folder() / 'corpora'} here."
    )


def download() -> Any:
    """Fetch with NLTK's own downloader; None where its server can't be reached."""
    import socket

    import nltk

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)
    try:
        # Elsewhere first: a download that stops half-way must not look like a WordNet.
        with tempfile.TemporaryDirectory(dir=data_folder()) as name:
            nltk.download("wordnet", download_dir=name, quiet=True, print_error_to=StringIO())
            archive = Path(name) / "corpora" / "wordnet.zip"
            if archive.is_file() and zipfile.is_zipfile(archive):
                target = data_folder() / "corpora" / archive.name
                target.parent.mkdir(exist_ok=True)
                archive.replace(target)
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
        patience = ["-o", f"Acquire::http::Timeout={SECONDS}", "-o", "Acquire::Retries=1"]
        own = [
            "-o", f"Dir::State::Lists={folder / 'lists'}",
            "-o", f"Dir::Cache={folder}",
            "-o", "Debug::NoLocking=1",
            "-o", "APT::Sandbox::User=",
        ]  # fmt: skip
        # The system's lists of packages, if it has any; else lists of our own.
        for arguments in (["download", PACKAGE], [*own, "update"], [*own, "download", PACKAGE]):
            command = ["apt-get", "-qq", *patience, *arguments]
            subprocess.run(command, cwd=folder, capture_output=True, check=False)
            if package := next(folder.glob(f"{PACKAGE}_*.deb"), None):
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
    staged.rename(target)
    return find()


def lexnames() -> str:
    """The lexnames file: number, name and part of speech, tab-separated, in WordNet's order."""
    groups = (("adj", 3, ADJECTIVES), ("adv", 4, ADVERBS), ("noun", 1, NOUNS), ("verb", 2, VERBS))
    names = [(f"{kind}.{name}", part) for kind, part, group in groups for name in group]
    names.append(("adj.ppl", 3))
    return "".join(f"{i:02d}\t{name}\t{part}\n" for i, (name, part) in enumerate(names))


def arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def command(args: argparse.Namespace) -> int:
    print(f"WordNet: {ensure_wordnet()}")
    return 0
