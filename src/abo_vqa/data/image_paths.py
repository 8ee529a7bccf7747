"""One picture, one identity, however a table spells its path.

    fa/fa12345b.jpg                                  as in ABO's images.csv
    images/small/fa/fa12345b.jpg                     as in the archive
    /kaggle/input/abo/small/fa/fa12345b.JPG          where somebody unpacked it
    small\\fa\\fa12345b.jpg                            on Windows
    fa12345b.jpg                                     the file name alone

ABO keeps each picture in a folder of two hexadecimal digits, so what counts of its paths are the
last two parts. Of other pictures' paths, one names the picture of another if its parts are the last
parts of the other's, and of no third one's: `a/1.jpg` and `b/1.jpg` stay two pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from abo_vqa.core.errors import UserError

_ABO_FOLDER = re.compile(r"[0-9a-fA-F]{2}")
_ABO_STEM = re.compile(r"[0-9a-fA-F]{8}")
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_ENDING = re.compile(r"\.[A-Za-z]{3,4}")
MAX_EXAMPLES = 3  # examples in a message

_Parts = tuple[str, ...]


@lru_cache(1 << 18)
def path_parts(text: str) -> _Parts:
    """A path's parts: no blanks, quotes, drive or empty parts; the ending in lower case."""
    text = text.strip().strip("\"'").strip()
    if _URL.match(text):
        text = unquote(urlsplit(text).path)
    parts = [p for p in text.replace("\\", "/").split("/") if p not in ("", ".")]
    if not parts:
        return ()
    stem, dot, ending = parts[-1].rpartition(".")
    if dot and _ENDING.fullmatch(dot + ending):
        parts[-1] = f"{stem}.{ending.lower()}"
    if len(parts) > 1 and _ABO_FOLDER.fullmatch(parts[-2]):
        folder, name = parts[-2].lower(), parts[-1]
        if _ABO_STEM.fullmatch(stem):
            name = name.lower()
        return folder, name
    return tuple(parts)


def image_key(text: str) -> str:
    """The one spelling of a path, e.g. "fa/fa12345b.jpg"; "" for a blank one."""
    return "/".join(path_parts(text))


def _is_tail(short: _Parts, long: _Parts) -> bool:
    """Whether the parts of one path are the last parts of the other."""
    return long[len(long) - len(short) :] == short if len(short) <= len(long) else False


class ImageIndex:
    """Pictures that are known, to be found by any spelling of their paths.

    Args:
        paths: the known pictures, as `find` returns them.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.exact: dict[_Parts, str] = {}
        self.by_name: dict[str, list[tuple[_Parts, str]]] = {}
        for path in paths:
            parts = path_parts(path)
            if parts and parts not in self.exact:
                self.exact[parts] = path
                for name in _names_of(parts[-1]):
                    self.by_name.setdefault(name, []).append((parts, path))

    def __len__(self) -> int:
        return len(self.exact)

    def find(self, text: str) -> str | None:
        """The known picture that a path names, None if there is none or several could be meant."""
        candidates = self.candidates(text)
        return candidates[0] if len(candidates) == 1 else None

    def candidates(self, text: str) -> list[str]:
        """The known pictures that a path could name; several where it is too short to tell."""
        parts = path_parts(text)
        if not parts:
            return []
        if parts in self.exact:
            return [self.exact[parts]]
        near = self.by_name.get(parts[-1].casefold(), [])
        for same in (lambda p: p, _folded):  # as written first, then in any case
            wanted = same(parts)
            fits = [
                (min(len(known), len(wanted)), path)
                for known, path in ((same(k), p) for k, p in near)
                if _tails(_without_ending(known, wanted), wanted)
            ]
            if fits:
                best = max(length for length, _ in fits)
                return [path for length, path in fits if length == best]
        return []

    def match(self, paths: Iterable[str]) -> _Match:
        """Find many paths at once."""
        known: dict[str, list[str]] = {}
        for path in paths if isinstance(paths, Sequence) else (paths := list(paths)):
            if path not in known:
                known[path] = self.candidates(path)
        found = {path: hits[0] for path, hits in known.items() if len(hits) == 1}
        lost = [path for path, hits in known.items() if not hits]
        unclear = [path for path, hits in known.items() if len(hits) > 1]
        return _Match([found.get(path) for path in paths], found, lost, unclear)


def _names_of(name: str) -> set[str]:
    """What a file is looked up by: its name, and its name without the ending."""
    name = name.casefold()
    return {name, name.rpartition(".")[0] or name}


def _folded(parts: _Parts) -> _Parts:
    return tuple(part.casefold() for part in parts)


def _without_ending(known: _Parts, wanted: _Parts) -> _Parts:
    """The known path, without its ending if the wanted one has none."""
    name = known[-1]
    stem = name.rpartition(".")[0]
    return (*known[:-1], stem) if stem and stem == wanted[-1] else known


def _tails(one: _Parts, other: _Parts) -> bool:
    return _is_tail(one, other) or _is_tail(other, one)


@dataclass(frozen=True)
class _Match:
    """Which of a table's pictures are known.

    Attributes:
        paths: [n] the known picture of each row, None where there is none.
        found: spelling → known picture. lost, unclear: the spellings of no picture, and of several.
    """

    paths: list[str | None]
    found: dict[str, str] = field(repr=False)
    lost: list[str] = field(repr=False)
    unclear: list[str] = field(repr=False)

    @property
    def pictures(self) -> list[str]:
        """The known pictures that are named, each once, in order."""
        return sorted(set(self.found.values()))

    @property
    def complete(self) -> bool:
        """Whether every path names a known picture."""
        return not self.lost and not self.unclear

    @property
    def total(self) -> int:
        """How many different pictures were looked for, as far as can be told."""
        return len(self.pictures) + len(_keys(self.lost)) + len(_keys(self.unclear))

    def describe(self, where: str) -> str:
        """How many were found in `where`, and examples of what wasn't."""
        said = f"{len(self.pictures):,} of {self.total:,} pictures found in {where}"
        if self.lost:
            said += f"; not there: {format_examples(self.lost)}"
        if self.unclear:
            said += f"; several could be meant: {format_examples(self.unclear)}"
        return said

    def require(self, where: str, known: ImageIndex) -> None:
        """Raise UserError if not one picture was found."""
        if self.found or not self.total:
            return
        there = next(iter(known.exact.values()), "none at all")
        raise UserError(
            f"not one of {self.total:,} pictures was found in {where}: the table has "
            f"{format_examples([*self.lost, *self.unclear])}, {where} has e.g. {there!r}. Are they the "
            "same pictures?"
        )


def _keys(paths: Iterable[str]) -> dict[str, str]:
    """One spelling, the first, of each picture: its key → the path as the table has it."""
    first: dict[str, str] = {}
    for path in paths:
        first.setdefault(image_key(path), path)
    return first


def format_examples(paths: Sequence[str]) -> str:
    """The first few pictures, as the table spells them, in quotes that show stray blanks."""
    different = list(_keys(paths).values())
    shown = ", ".join(f"'{path}'" for path in different[:MAX_EXAMPLES])
    return shown + (
        f" and {len(different) - MAX_EXAMPLES:,} more" if len(different) > MAX_EXAMPLES else ""
    )


def unify_image_paths(*columns: Iterable[str]) -> list[list[str]]:
    """Columns of paths in which each picture has one name, across all of them.

    Args:
        columns: picture paths of one or more tables, in any spelling.
    Returns:
        the columns with each path as its picture's key: the longest spelling's where a shorter one
        names the same picture (`fa12345b.jpg` and `fa/fa12345b.jpg`); "" for a blank path.
    """
    lists = [list(column) for column in columns]
    every = {key for paths in lists for path in paths if (key := path_parts(path))}
    longest: dict[_Parts, str] = {}
    index: dict[str, list[_Parts]] = {}
    for parts in sorted(every, key=lambda p: (-len(p), p)):
        wholes = [
            w for w in index.get(parts[-1].casefold(), []) if _is_tail(_folded(parts), _folded(w))
        ]
        if len(wholes) == 1:
            longest[parts] = "/".join(wholes[0])
        else:
            longest[parts] = "/".join(parts)
            index.setdefault(parts[-1].casefold(), []).append(parts)
    return [[longest.get(path_parts(path), "") for path in paths] for paths in lists]
