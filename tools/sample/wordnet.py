"""Make samples/wordnet.zip, with which the metrics need no download.

PYTHONPATH=tools python -m sample.wordnet FOLDER

FOLDER is any WordNet 3.0: NLTK's corpora/wordnet, unpacked, or /usr/share/wordnet of Debian's
package wordnet-base, to which `lexnames` is added. Blanks take the place of the glosses, half of
all bytes, which no metric reads: every other byte stays at its offset, by which the index refers to
it.
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

from abo_vqa.core.files import atomic_write

TARGET = Path("samples/wordnet.zip")
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever it is made
# The 45 lexicographer files with their part of speech (1 noun, 2 verb, 3 adjective, 4 adverb), as
# the manual page lexnames(5WN) lists them. Debian's package lacks the file, which NLTK reads.
_GROUPS = (
    ("adj", 3, ("all", "pert")),
    ("adv", 4, ("all",)),
    ("noun", 1, (
        "Tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication",
        "event", "feeling", "food", "group", "location", "motive", "object", "person", "phenomenon",
        "plant", "possession", "process", "quantity", "relation", "shape", "state", "substance",
        "time",
    )),
    ("verb", 2, (
        "body", "change", "cognition", "communication", "competition", "consumption", "contact",
        "creation", "emotion", "motion", "perception", "possession", "social", "stative", "weather",
    )),
    ("adj", 3, ("ppl",)),
)  # fmt: skip


def lexnames() -> str:
    """Make the lexnames file: number, name and part of speech, tab-separated, in its order."""
    names = [(f"{kind}.{name}", part) for kind, part, group in _GROUPS for name in group]
    return "".join(f"{i:02d}\t{name}\t{part}\n" for i, (name, part) in enumerate(names))


def without_glosses(content: bytes) -> bytes:
    """Put blanks in the place of a data file's glosses (wndb(5WN): what follows " | ").

    Args:
        content: the file.
    """
    lines = []
    for line in content.split(b"\n"):
        synset, bar, gloss = line.partition(b" | ")
        licence = line.startswith(b"  ")
        lines.append(line if licence else synset + bar + b" " * len(gloss))
    return b"\n".join(lines)


def pack(folder: Path, target: Path) -> None:
    """Write a WordNet's archive.

    Args:
        folder: the WordNet.
        target: the archive.
    """
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    files.setdefault("lexnames", lexnames().encode("ascii"))
    header = (line for line in files["data.noun"].splitlines() if line.startswith(b"  "))
    files["LICENSE"] = b"".join(line.strip().partition(b" ")[2].strip() + b"\n" for line in header)
    with atomic_write(target) as staged, zipfile.ZipFile(staged, "w") as archive:
        for name, content in sorted(files.items()):
            packed = without_glosses(content) if name.startswith("data.") else content
            info = zipfile.ZipInfo(f"wordnet/{name}", _LONG_AGO)
            archive.writestr(info, packed, zipfile.ZIP_DEFLATED, compresslevel=9)


def main() -> None:
    """Parse the options and write the archive."""
    parser = argparse.ArgumentParser(prog="sample.wordnet", description="Make samples/wordnet.zip.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="any WordNet 3.0")
    pack(parser.parse_args().folder, TARGET)


if __name__ == "__main__":
    main()
