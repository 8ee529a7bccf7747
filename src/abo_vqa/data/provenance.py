"""What a table of people's own doesn't say about its pictures: products, types and hashes.

They come from a balanced table (`--balanced FILE`), hashes also from the pictures themselves
(`--images DIR`): a picture at hand is never assumed to be unlike the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.progress import progress
from abo_vqa.data.archive import IMAGE_PREFIX, IMAGES_TAR
from abo_vqa.data.columns import Columns, read_columns
from abo_vqa.data.image_decoding import UnreadableImageError, phash, sha1
from abo_vqa.data.image_paths import MAX_EXAMPLES, ImageIndex, path_parts
from abo_vqa.data.tar_index import FolderMembers, TarMembers

_HASHES = ("image_sha1", "phash")
_FROM_BALANCED = ("image_id", "item_id", "product_type", *_HASHES)
# Values by which pictures belong together: two that nobody knows aren't the same.
_COMPARED = ("item_id", *_HASHES)
_BLANK = ("", "nan", "none", "null", "na", "n/a", "<na>", "-")


def add_provenance_options(parser: argparse.ArgumentParser) -> None:
    """Add `--balanced` and `--images`."""
    parser.add_argument(
        "--balanced",
        type=Path,
        metavar="FILE",
        help="balanced table with product ids and picture hashes, for tables without them",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of the pictures, or of ABO's archives: those without hashes are hashed",
    )


def complete_table(
    read: Columns, balanced: Path | None, images: Path | None
) -> tuple[pd.DataFrame, list[str]]:
    """A table with what can be found out about its pictures, and what to tell the user.

    Args:
        read: with image_path. balanced, images: the options' values.
    Raises:
        UserError: a row names no picture; the balanced table, or the folder, has none of them.
    """
    _require_pictures(read)
    table, notes = _tidied(read.frame), [read.describe(), *read.blanks()]
    if balanced:
        known = read_columns(balanced, ("image_path",)).frame
        table, told = _with_provenance(table, _tidied(known))
        notes.append(told)
    if images:
        table, told = _with_hashes(table, images)
        notes.append(told)
    return table, notes


def _require_pictures(read: Columns) -> None:
    """Raise UserError if a row names no picture: it would belong to none, or to all such rows."""
    blank = [not path_parts(path) for path in read.frame["image_path"]]
    if any(blank):
        lines = read.lines[blank]
        shown = ", ".join(map(str, lines[:MAX_EXAMPLES])) + (
            " …" if len(lines) > MAX_EXAMPLES else ""
        )
        raise UserError(
            f"{read.path}: {len(lines):,} row(s) name no picture (line {shown}). Fill in "
            f"{read.taken['image_path']!r}, or remove them."
        )


def _tidied(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose unknown ids and hashes are "", and whose hashes have one spelling."""
    tidy = {}
    for name in _COMPARED:
        if name in table:
            values = table[name].str.strip()
            known = ~values.str.lower().isin(_BLANK)
            tidy[name] = (values.str.lower() if name in _HASHES else values).where(known, "")
    return table.assign(**tidy)


def _with_provenance(table: pd.DataFrame, balanced: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Add the columns of the balanced table that a plain VQA table lacks; "" where unknown.

    What the table says itself stays; where it says nothing, the balanced table does.

    Args:
        balanced: with image_path.
    Returns:
        the table, and how many of its pictures the balanced table has, whatever their spelling.
    Raises:
        UserError: it has none of them, or says nothing about them.
    """
    added = [name for name in _FROM_BALANCED if name in balanced]
    if not added:
        raise UserError(
            f"the balanced table has none of the columns {', '.join(_FROM_BALANCED)}: it adds "
            f"nothing. It has {', '.join(map(str, balanced.columns))}."
        )
    known = balanced.drop_duplicates("image_path").set_index("image_path")
    index = ImageIndex(known.index)
    match = index.match(table["image_path"].tolist())
    match.require("the balanced table", index)
    values = known.reindex(match.paths)[added].fillna("").set_axis(table.index)
    told = match.describe("the balanced table")
    joined = table.assign(**{name: _filled(table, name, values[name]) for name in added})
    return joined, told if match.complete else f"warning: {told}"


def _filled(table: pd.DataFrame, name: str, values: pd.Series) -> pd.Series:
    """A column, with other values where it has none."""
    return values if name not in table else table[name].where(table[name] != "", values)


@contextmanager
def _pictures_in(folder: Path) -> Iterator[tuple[TarMembers | FolderMembers, ImageIndex]]:
    """A folder's pictures: those of ABO's archive, if it has the archive, or else all its files.

    Raises:
        UserError: there is no such folder, or the archive is damaged.
    """
    if not folder.is_dir():
        raise UserError(
            f"no folder {folder}; --images names the folder of the pictures, or of {IMAGES_TAR}."
        )
    tar = folder / IMAGES_TAR
    members = TarMembers(tar) if tar.is_file() else FolderMembers(folder)
    try:
        yield (
            members,
            ImageIndex(
                name
                for name in members.names()
                if isinstance(members, FolderMembers) or name.startswith(IMAGE_PREFIX)
            ),
        )
    finally:
        members.close()


@dataclass(frozen=True)
class _Hashed:
    """What came of a picture: its hashes, or why it has none."""

    image_sha1: str = ""
    phash: str = ""
    problem: str = ""


def _hashed(members: TarMembers | FolderMembers, name: str) -> _Hashed:
    """Hash a picture; in the archive by its rule, elsewhere whatever format it is in."""
    try:
        data = members.read(name) or b""
        return _Hashed(sha1(data), phash(data, name, by_name=isinstance(members, TarMembers)))
    except UnreadableImageError as error:
        return _Hashed(problem=str(error))
    except OSError as error:
        return _Hashed(problem=error.strerror or str(error))


def _with_hashes(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, str]:
    """Hash the pictures of a table that lack a hash and are in a folder.

    Returns:
        the table, and how many pictures were looked for, found, and can't be compared.
    Raises:
        UserError: the folder has none of them, or none that can be read.
    """
    from concurrent.futures import ThreadPoolExecutor

    table = table.assign(**{name: "" for name in _HASHES if name not in table})
    unknown = (table["image_sha1"] == "") | (table["phash"] == "")
    lacking = table["image_path"][unknown].tolist()
    if not lacking:
        return table, f"every picture has its hashes already: none was read from {folder}"
    with _pictures_in(folder) as (members, index):
        match = index.match(lacking)
        match.require(str(folder), index)
        names = match.pictures
        with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
            made = pool.map(lambda name: _hashed(members, name), names)
            bar = progress(made, total=len(names), desc="hashes", unit="picture")
            known = dict(zip(names, bar, strict=True))
    told = f"{match.describe(str(folder))}; {_summed_up(known, folder)}"
    rows = [known.get(match.found.get(path, ""), _Hashed()) for path in table["image_path"]]
    for name in _HASHES:
        values = pd.Series([getattr(row, name) for row in rows], index=table.index, dtype=object)
        table = table.assign(**{name: _filled(table, name, values)})
    complete = match.complete and not any(row.problem for row in known.values())
    return table, told if complete else f"warning: {told}"


def _summed_up(known: Mapping[str, _Hashed], folder: Path) -> str:
    """How many pictures were hashed, and what was wrong with the others.

    Raises:
        UserError: something was wrong with all of them.
    """
    bad = [f"{name}: {row.problem}" for name, row in known.items() if row.problem]
    shown = ", ".join(bad[:MAX_EXAMPLES]) + (" …" if len(bad) > MAX_EXAMPLES else "")
    if len(bad) == len(known):
        raise UserError(f"none of {len(bad):,} pictures in {folder} can be read ({shown}).")
    told = f"{len(known) - len(bad):,} hashed"
    return told + (f", {len(bad):,} can't be read ({shown})" if bad else "")
