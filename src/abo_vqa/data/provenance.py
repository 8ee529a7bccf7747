"""What users' own tables lack about their images: products, product types, and hashes.

They come from a balanced table (`--balanced FILE`), hashes also from the images themselves
(`--images DIR`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.data.archive import IMAGE_PREFIX, IMAGES_TAR
from abo_vqa.data.columns import Columns, read_columns
from abo_vqa.data.image_files import ImageError
from abo_vqa.data.image_hashes import HASH_COLUMNS, ImageHashes, fill_hashes, hash_images
from abo_vqa.data.image_paths import MAX_EXAMPLES, ImageIndex, path_parts
from abo_vqa.data.members import FolderMembers, TarMembers
from abo_vqa.data.variants import NAME_COLUMNS

_FROM_BALANCED = ("image_id", "item_id", "product_type", *HASH_COLUMNS)
# Values that group images: two unknown ones aren't the same.
_COMPARED = ("item_id", *HASH_COLUMNS)
_BLANK = ("", "nan", "none", "null", "na", "n/a", "<na>", "-")


def add_provenance_options(parser: argparse.ArgumentParser) -> None:
    """Add `--balanced` and `--images` to a command's parser."""
    parser.add_argument(
        "--balanced",
        type=Path,
        metavar="FILE",
        help="balanced table with product ids and image hashes, for tables without them",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of the images, or of ABO's archives: those without hashes are hashed",
    )


def complete_table(
    columns: Columns, balanced: Path | None, images: Path | None, *, names: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """Add to a user's table what can be found out about its images.

    Args:
        columns: the table, with image_path.
        balanced: the value of `--balanced`.
        images: the value of `--images`.
        names: take products' names and colours from the balanced table as well.

    Returns:
        the table, and lines for the terminal.

    Raises:
        UserError: a row names no image, or the balanced table or the folder has none of them.
    """
    _require_image_paths(columns)
    table = _with_blank_unknowns(columns.frame)
    notes = [columns.describe(), *columns.blank_warnings()]
    if balanced:
        known = read_columns(balanced, ("image_path",)).frame
        wanted = (*_FROM_BALANCED, *NAME_COLUMNS) if names else _FROM_BALANCED
        table, note = _fill_from_balanced(table, _with_blank_unknowns(known), wanted)
        notes.append(note)
    if images:
        table, note = _fill_from_images(table, images)
        notes.append(note)
    return table, notes


def _require_image_paths(columns: Columns) -> None:
    """Raise UserError if a row names no image: it would be in no group, or in one with the like."""
    blank = [not path_parts(path) for path in columns.frame["image_path"]]
    if any(blank):
        raise UserError(
            f"{columns.path}: {sum(blank):,} row(s) name no image ({columns.places(blank)}). Fill "
            f"in {columns.source_names['image_path']!r}, or remove them."
        )


def _with_blank_unknowns(table: pd.DataFrame) -> pd.DataFrame:
    """Replace unknown ids and hashes by "", and write all hashes in lower case."""
    cleaned = {}
    for name in _COMPARED:
        if name in table:
            values = table[name].str.strip()
            known = ~values.str.lower().isin(_BLANK)
            cleaned[name] = (values.str.lower() if name in HASH_COLUMNS else values).where(
                known, ""
            )
    return table.assign(**cleaned)


def _fill_from_balanced(
    table: pd.DataFrame, balanced: pd.DataFrame, wanted: Sequence[str]
) -> tuple[pd.DataFrame, str]:
    """Add the balanced table's columns; values that the table itself has stay.

    Args:
        table: the user's table.
        balanced: with image_path.
        wanted: the columns to add.

    Returns:
        the table, with "" where nothing is known, and how many of its images were found.

    Raises:
        UserError: the balanced table has none of the images, or none of the columns.
    """
    added = [name for name in wanted if name in balanced]
    if not added:
        raise UserError(
            f"the balanced table has none of the columns {', '.join(wanted)}: it adds "
            f"nothing. It has {', '.join(map(str, balanced.columns))}."
        )
    known = balanced.drop_duplicates("image_path").set_index("image_path")
    index = ImageIndex(known.index)
    match = index.match(table["image_path"].tolist())
    match.require("the balanced table", index)
    values = known.reindex(match.paths)[added].fillna("").set_axis(table.index)
    for name in added:
        own = table.get(name)
        table = table.assign(
            **{name: values[name] if own is None else own.where(own != "", values[name])}
        )
    note = match.describe("the balanced table")
    return table, note if match.complete else f"warning: {note}"


@contextmanager
def _images_in(folder: Path) -> Iterator[tuple[TarMembers | FolderMembers, ImageIndex]]:
    """A folder's images: those of ABO's archive if it is there, else all files.

    Raises:
        UserError: there is no such folder, or the archive is damaged.
    """
    if not folder.is_dir():
        raise UserError(
            f"no folder {folder}; --images names the folder of the images, or of {IMAGES_TAR}."
        )
    tar = folder / IMAGES_TAR
    members = TarMembers(tar) if tar.is_file() else FolderMembers(folder)
    prefix = IMAGE_PREFIX if isinstance(members, TarMembers) else ""
    try:
        yield members, ImageIndex(name for name in members.names() if name.startswith(prefix))
    finally:
        members.close()


def _fill_from_images(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, str]:
    """Hash the images that lack a hash and are in a folder.

    Returns:
        the table, and how many images were looked for, found, and can't be compared.

    Raises:
        UserError: the folder has none of them, or none that can be read.
    """
    table = table.assign(**{name: "" for name in HASH_COLUMNS if name not in table})
    unknown = (table["image_sha1"] == "") | (table["phash"] == "")
    lacking = table["image_path"][unknown].tolist()
    if not lacking:
        return table, f"all images already have hashes; none were read from {folder}"
    with _images_in(folder) as (members, index):
        match = index.match(lacking)
        match.require(str(folder), index)

        def read(name: str) -> bytes:
            try:
                return members.read(name) or b""
            except OSError as error:
                raise ImageError(name, error.strerror or str(error)) from error

        # The archive's images are hashed by curation's rule, other files whatever their format.
        known = hash_images(match.images, read, by_name=isinstance(members, TarMembers))
    note = f"{match.describe(str(folder))}; {_describe_hashing(known, folder)}"
    table = fill_hashes(table, {path: known[name] for path, name in match.found.items()})
    complete = match.complete and not any(hashes.problem for hashes in known.values())
    return table, note if complete else f"warning: {note}"


def _describe_hashing(known: Mapping[str, ImageHashes], folder: Path) -> str:
    """How many images were hashed, and what is wrong with the others.

    Raises:
        UserError: something is wrong with all of them.
    """
    bad = [f"{name}: {hashes.problem}" for name, hashes in known.items() if hashes.problem]
    examples = ", ".join(bad[:MAX_EXAMPLES]) + (" …" if len(bad) > MAX_EXAMPLES else "")
    if len(bad) == len(known):
        raise UserError(f"none of {len(bad):,} images in {folder} can be read ({examples}).")
    note = f"{len(known) - len(bad):,} hashed"
    return note + (f", {len(bad):,} can't be read ({examples})" if bad else "")
