r"""One image, one identity, however a table writes its path.

    fa/fa12345b.jpg                                  as in ABO's images.csv
    images/small/fa/fa12345b.jpg                     as in the archive
    /kaggle/input/abo/small/fa/fa12345b.JPG          where somebody unpacked it
    small\fa\fa12345b.jpg                            on Windows
    fa12345b.jpg                                     the file name alone

ABO keeps each image in a folder named by two hexadecimal digits, so the last two parts identify it.
Other paths name the same image if the parts of one are the last parts of the other, and of no third
one: `a/1.jpg` and `b/1.jpg` stay two images.
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
_EXTENSION = re.compile(r"\.[A-Za-z]{3,4}")
_IMAGE_FILE = re.compile(r"\.(jpe?g|png|webp|gif|bmp)$", re.IGNORECASE)  # as data/images is read
_COCO_NAME = re.compile(r"COCO_\w+_\d{12}\.jpg$")
MAX_EXAMPLES = 3
"""Examples given in a message."""

_Parts = tuple[str, ...]


@lru_cache(1 << 18)
def path_parts(text: str) -> _Parts:
    """Split a path or URL into its parts, cleaned of blanks, quotes, and empty parts.

    The extension, and ABO's folders and file names, are put in lower case; of ABO's paths only the
    last two parts are kept.

    Args:
        text: the path as a table has it.

    Returns:
        the parts, () for a blank path.
    """
    text = text.strip().strip("\"'").strip()
    if _URL.match(text):
        text = unquote(urlsplit(text).path)
    parts = [p for p in text.replace("\\", "/").split("/") if p not in ("", ".")]
    if not parts:
        return ()
    stem, dot, extension = parts[-1].rpartition(".")
    if dot and _EXTENSION.fullmatch(dot + extension):
        parts[-1] = f"{stem}.{extension.lower()}"
    if len(parts) > 1 and _ABO_FOLDER.fullmatch(parts[-2]):
        folder, name = parts[-2].lower(), parts[-1]
        if _ABO_STEM.fullmatch(stem):
            name = name.lower()
        return folder, name
    return tuple(parts)


def image_key(text: str) -> str:
    """Return the canonical form of a path, e.g. "fa/fa12345b.jpg"; "" for a blank one."""
    return "/".join(path_parts(text))


def _is_suffix(short: _Parts, long: _Parts) -> bool:
    """Whether the first path's parts are the last parts of the second."""
    return long[len(long) - len(short) :] == short if len(short) <= len(long) else False


class ImageIndex:
    """Known images, found by any form of their paths.

    Attributes:
        exact: an image's parts → its path.
        by_name: a file name, with or without extension → the images that have it.

    Args:
        paths: the known images, as `find` returns them.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.exact: dict[_Parts, str] = {}
        self.by_name: dict[str, list[tuple[_Parts, str]]] = {}
        for path in paths:
            parts = path_parts(path)
            if parts and parts not in self.exact:
                self.exact[parts] = path
                for name in _lookup_names(parts[-1]):
                    self.by_name.setdefault(name, []).append((parts, path))

    def __len__(self) -> int:
        return len(self.exact)

    def find(self, text: str) -> str | None:
        """Return the image that a path names; None if there is none, or the path is ambiguous."""
        candidates = self.candidates(text)
        return candidates[0] if len(candidates) == 1 else None

    def candidates(self, text: str) -> list[str]:
        """Return all images that a path may name; several if it is ambiguous."""
        parts = path_parts(text)
        if not parts:
            return []
        if parts in self.exact:
            return [self.exact[parts]]
        near = self.by_name.get(parts[-1].casefold(), [])
        for fold in (lambda p: p, _casefold):  # as written first, then in any case
            folded = fold(parts)
            fits = [
                (min(len(known), len(folded)), path)
                for known, path in ((fold(k), p) for k, p in near)
                if _overlap(_match_extension(known, folded), folded)
            ]
            if fits:
                best = max(length for length, _ in fits)
                return [path for length, path in fits if length == best]
        return []

    def match(self, paths: Iterable[str]) -> ImageMatches:
        """Find the images of a whole column of paths."""
        known: dict[str, list[str]] = {}
        for path in paths if isinstance(paths, Sequence) else (paths := list(paths)):
            if path not in known:
                known[path] = self.candidates(path)
        unique = {path: hits[0] for path, hits in known.items() if len(hits) == 1}
        not_found = [path for path, hits in known.items() if not hits]
        ambiguous = [path for path, hits in known.items() if len(hits) > 1]
        return ImageMatches([unique.get(path) for path in paths], unique, not_found, ambiguous)


def _lookup_names(name: str) -> set[str]:
    """The keys of a file in the index: its name with and without extension."""
    name = name.casefold()
    return {name, name.rpartition(".")[0] or name}


def _casefold(parts: _Parts) -> _Parts:
    return tuple(part.casefold() for part in parts)


def _match_extension(candidate: _Parts, parts: _Parts) -> _Parts:
    """The known path, without its extension where the path looked for has none."""
    name = candidate[-1]
    stem = name.rpartition(".")[0]
    return (*candidate[:-1], stem) if stem and stem == parts[-1] else candidate


def _overlap(one: _Parts, other: _Parts) -> bool:
    """Whether one path's parts are the last parts of the other."""
    return _is_suffix(one, other) or _is_suffix(other, one)


@dataclass(frozen=True)
class ImageMatches:
    """Which of a table's images are known.

    Attributes:
        paths: [n] the known image of each row, None where there is none.
        found: a path of the table → the known image.
        not_found: the paths that name no known image.
        ambiguous: the paths that may name several.
    """

    paths: list[str | None]
    found: dict[str, str] = field(repr=False)
    not_found: list[str] = field(repr=False)
    ambiguous: list[str] = field(repr=False)

    @property
    def images(self) -> list[str]:
        """The known images that were found, each once, sorted."""
        return sorted(set(self.found.values()))

    @property
    def complete(self) -> bool:
        """Whether every path names a known image."""
        return not self.not_found and not self.ambiguous

    @property
    def total(self) -> int:
        """How many different images were looked for, as far as can be told."""
        return len(self.images) + len(_keys(self.not_found)) + len(_keys(self.ambiguous))

    def describe(self, where: str) -> str:
        """Say how many images were found, with examples of those that weren't.

        Args:
            where: what was searched, for the message.
        """
        message = f"{len(self.images):,} of {self.total:,} images found in {where}"
        if self.not_found:
            message += f"; not there: {format_examples(self.not_found)}"
        if self.ambiguous:
            message += f"; several could be meant: {format_examples(self.ambiguous)}"
        return message

    def require(self, where: str, index: ImageIndex) -> None:
        """Raise UserError if no image was found.

        Args:
            where: what was searched, for the message.
            index: the images there.
        """
        if self.found or not self.total:
            return
        missing = [*self.not_found, *self.ambiguous]
        files = list(index.exact.values())
        images = [path for path in files if _IMAGE_FILE.search(path)]
        there = [*images, *files, "none at all"][0]
        # Not every set that is made like VQAv2 is about COCO's images.
        numbered = any(_COCO_NAME.search(path) for path in missing)
        hint = " Names such as COCO_… were made from VQAv2's numbers (docs/data.md)." * numbered
        raise UserError(
            f"none of the {self.total:,} images was found in {where}: the table has "
            f"{format_examples(missing)}, {where} has e.g. {there!r}. "
            f"Are they the same images?{hint}"
        )


def _keys(paths: Iterable[str]) -> dict[str, str]:
    """The first path of each image: its key → the path as the table has it."""
    first: dict[str, str] = {}
    for path in paths:
        first.setdefault(image_key(path), path)
    return first


def format_examples(paths: Sequence[str]) -> str:
    """Quote the first few images, as the table has them; the quotes show stray blanks.

    Args:
        paths: of the images.
    """
    different = list(_keys(paths).values())
    examples = ", ".join(f"'{path}'" for path in different[:MAX_EXAMPLES])
    return examples + (
        f" and {len(different) - MAX_EXAMPLES:,} more" if len(different) > MAX_EXAMPLES else ""
    )


def unify_image_paths(*columns: Iterable[str]) -> list[list[str]]:
    """Give each image one name across columns of paths.

    Args:
        columns: image paths of one or more tables, in any form.

    Returns:
        the columns with each path replaced by its image's key; where a shorter path names the same
        image (`fa12345b.jpg` and `fa/fa12345b.jpg`), the longer one's. "" for a blank path.
    """
    lists = [list(column) for column in columns]
    every = {key for paths in lists for path in paths if (key := path_parts(path))}
    longest: dict[_Parts, str] = {}
    index: dict[str, list[_Parts]] = {}
    for parts in sorted(every, key=lambda p: (-len(p), p)):
        wholes = [
            w
            for w in index.get(parts[-1].casefold(), [])
            if _is_suffix(_casefold(parts), _casefold(w))
        ]
        if len(wholes) == 1:
            longest[parts] = "/".join(wholes[0])
        else:
            longest[parts] = "/".join(parts)
            index.setdefault(parts[-1].casefold(), []).append(parts)
    return [[longest.get(path_parts(path), "") for path in paths] for paths in lists]
