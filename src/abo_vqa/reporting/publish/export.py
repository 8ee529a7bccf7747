"""The set as Parquet with pictures, card and Croissant."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import write_json
from abo_vqa.core.paths import AUDIT, DATA, FUNNEL, GENERATION
from abo_vqa.data.archive import open_archive
from abo_vqa.data.columns import read_columns
from abo_vqa.data.image_paths import ImageIndex
from abo_vqa.data.questions import question_type
from abo_vqa.reporting.publish.card import BLIND, licence, render
from abo_vqa.reporting.publish.croissant import metadata
from abo_vqa.reporting.publish.parquet import columns_of, write_split

if TYPE_CHECKING:
    from abo_vqa.config import Config
    from abo_vqa.data.archive import Archive


_SPLITS = ("train", "test")


_INPUTS = (FUNNEL, GENERATION, AUDIT)


_OURS = ("README.md", "croissant.json", "data")  # what an export consists of


_Rows = dict[str, list[dict[str, Any]]]


def _read_rows(chosen: Mapping[str, str] | None = None) -> tuple[_Rows, list[str]]:
    """Both sides of the split, a dict a row, and what was taken for what where that isn't plain.

    Args:
        chosen: meaning → column, for columns without a usual name.
    Raises:
        UserError: the pipeline hasn't been run, or one side is empty.
    """
    tables = {name: DATA / f"{name}.csv" for name in _SPLITS}
    missing = [str(path) for path in (*tables.values(), *_INPUTS) if not path.is_file()]
    if missing:
        raise UserError(
            f"nothing to export: no {', '.join(missing)}. Run `dvc repro split` first "
            "(it makes the VQA set and splits it)."
        )
    rows: _Rows = {}
    notes = []
    for name, path in tables.items():
        columns = read_columns(path, ("image_path", "question", "answer"), chosen=chosen)
        table = columns.frame
        if table.empty:
            raise UserError(f"{path} has no rows. Run `dvc repro split`.")
        if columns.renames:
            notes.append(columns.describe())
        notes += columns.blanks()
        if "row_id" not in table or not table["row_id"].str.fullmatch(r"[0-9]+").all():
            first = sum(map(len, rows.values()))
            table["row_id"] = range(first, first + len(table))
        rows[name] = [
            {**{str(k): v for k, v in row.items()}, "question_type": question_type(row["question"])}
            for row in table.to_dict("records")
        ]
    return rows, notes


def _find_pictures(rows: _Rows, archive: Archive) -> str:
    """Give every row the archive's own spelling of its picture's path, where it has one.

    Returns:
        how many were found, where that took more than looking, else "".
    """
    there = set(archive.pictures())
    every = [row for part in rows.values() for row in part]
    strange = [row for row in every if row["image_path"] not in there]
    match = ImageIndex(there if strange else ()).match([row["image_path"] for row in strange])
    for row, path in zip(strange, match.paths, strict=True):
        row["image_path"] = path or row["image_path"]
    return f"other spellings: {match.describe(str(archive.raw))}" if match.found else ""


def _add_choices(rows: _Rows, k: int, config: Config) -> dict[str, float]:
    """Add `choices` and `answer_index` to all rows; returns what frequency alone gets right.

    Both sides are drawn from together, in the order of the VQA table: which wrong answers a
    question gets doesn't depend on the side it fell on.
    """
    from abo_vqa.data.normalise import normalise
    from abo_vqa.reporting.publish.choices import Chooser, blind_accuracy, same_meaning

    every = sorted((row for part in rows.values() for row in part), key=lambda r: int(r["row_id"]))
    answers = {normalise(row["answer"]) for row in every}
    chooser = Chooser(every, k, config.seed, same_meaning(config.evaluate.aliases, answers))
    chosen = [chooser.choose(number, row) for number, row in enumerate(every)]
    for row, choices in zip(every, chosen, strict=True):
        row["choices"], row["answer_index"] = choices.options, choices.answer
    return blind_accuracy(every, chosen, config.seed)


@contextmanager
def _replaced(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of `out` when the block succeeds.

    Raises:
        UserError: `out` holds something that isn't an export.
    """
    strange = sorted(p.name for p in out.iterdir() if p.name not in _OURS) if out.is_dir() else []
    if strange or out.is_file():
        raise UserError(
            f"--out {out} holds {strange[0] if strange else 'a file'}, which isn't of an export: "
            "it would be lost. Choose another folder, or remove it."
        )
    partial, old = (out.with_name(f".{out.name}.{word}") for word in ("partial", "old"))
    for leftover in (partial, old):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.exists():
            out.rename(old)
        partial.rename(out)
    finally:
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)


def export(
    config: Config, out: Path, k: int | None, chosen: Mapping[str, str] | None = None
) -> str:
    """Write the export; an existing one is replaced at the end, in one step.

    Args:
        k: choices a question, None for none.
        chosen: see `_read_rows`.
    Returns:
        what was written, for people.
    """
    from abo_vqa.reporting.cards import kind_of_answers

    rows, notes = _read_rows(chosen)
    blind = _add_choices(rows, k, config) if k else {}
    every = [row for part in rows.values() for row in part]
    columns = columns_of(every[0])
    with _replaced(out) as folder:
        with open_archive(config.data.raw) as archive:
            notes.append(_find_pictures(rows, archive))
            splits = [write_split(name, part, archive, folder) for name, part in rows.items()]
        if not all(split.rows for split in splits):
            raise UserError(f"not one picture of a split can be read from {config.data.raw}.")
        card = render(config, every, splits, columns, blind)
        (folder / "README.md").write_text(card, encoding="utf-8")
        total, pictures = (sum(getattr(s, n) for s in splits) for n in ("rows", "pictures"))
        answers = (row["answer"] for row in every)
        description = (
            f"{total:,} questions with {kind_of_answers(answers)} about {pictures:,} product "
            "pictures; how it was made and its known biases: README.md."
        )
        write_json(
            metadata(
                "abo-vqa",
                description,
                licence(config)[1],
                config.data.attribution,
                version("abo-vqa"),
                columns,
                splits,
            ),
            folder / "croissant.json",
        )
        sync(folder)
    lost = sum(split.unreadable for split in splits)
    said = [*filter(None, notes), f"{total:,} questions, {pictures:,} pictures → {out}"]
    if lost:
        said.append(f"{lost:,} questions left out: their picture can't be read")
    if blind:
        shares = ", ".join(f"{BLIND[name]} {share:.1%}" for name, share in blind.items())
        said.append(f"right choices without the picture: {shares}")
    return "\n".join(said)


def sync(folder: Path) -> None:
    """Have the files on disk before the folder gets its name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
