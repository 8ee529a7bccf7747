"""The set as Parquet with its images, a data card and Croissant metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from abo_vqa.core.config import Config
from abo_vqa.core.credits import credit_warning
from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5, fingerprint
from abo_vqa.core.json_files import write_json
from abo_vqa.core.paths import AUDIT, FUNNEL, GENERATION, TEST, TRAIN
from abo_vqa.data.archive import Archive, open_archive
from abo_vqa.data.columns import read_columns
from abo_vqa.data.image_paths import ImageIndex
from abo_vqa.data.normalise import normalise
from abo_vqa.data.questions import question_type
from abo_vqa.reporting.cards import answer_description, licence_url, render_export_card
from abo_vqa.reporting.export_format import ExportColumn, ExportedSplit, Row, export_columns
from abo_vqa.reporting.publish.choices import (
    BLIND_CHOICE_LABELS,
    DistractorSampler,
    blind_choice_accuracy,
)
from abo_vqa.reporting.publish.croissant import INSTALL_HINT, croissant_metadata
from abo_vqa.reporting.publish.exchange import (
    DATASET_INFO,
    READMES,
    TASK,
    write_llamafactory_info,
    write_llava_split,
    write_lmms_eval_task,
    write_tsv_split,
)
from abo_vqa.reporting.publish.parquet import write_parquet_split
from abo_vqa.reporting.publish.resuming import ExportJournal, resumable_folder
from abo_vqa.reporting.publish.synonyms import synonym_test

_SPLITS = {"train": TRAIN, "test": TEST}
_INPUTS = (FUNNEL, GENERATION, AUDIT)
_Writer = Callable[[str, Sequence[Row], Archive, Path, ExportJournal], ExportedSplit]
# A format → what writes a split, and the names of its files beside README.md
_FORMATS: dict[str, tuple[_Writer, tuple[str, ...]]] = {
    "parquet": (write_parquet_split, ("croissant.json", "data")),
    "llava": (write_llava_split, ("train.json", "test.json", "images", DATASET_INFO)),
    "vlmeval": (write_tsv_split, (f"{TASK}_train.tsv", f"{TASK}_test.tsv")),
    "lmms-eval": (write_parquet_split, (f"{TASK}.yaml", "utils.py", "data")),
}
_ROWS_AT_ONCE = 1 << 12  # as one text in memory, for their fingerprint
_WITH_CHOICES = ("parquet", "vlmeval")
# Cells that pandas, with which VLMEvalKit reads tables, takes for missing ones.
_PANDAS_MISSING = {"", "None", "none", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "<NA>"}

_Rows = dict[str, list[dict[str, Any]]]


def export(
    config: Config,
    out: Path,
    k: int | None,
    chosen: Mapping[str, str] | None = None,
    form: str = "parquet",
) -> str:
    """Write the export; an existing one is replaced at the end, in one step.

    An interrupted one goes on where it was, if nothing that it depends on has changed.

    Args:
        config: the settings.
        out: the export's folder.
        k: choices per question, None for none.
        chosen: meaning → column, for columns without a usual name.
        form: one of `export_format.EXPORT_FORMATS`.

    Returns:
        A message about what was written.

    Raises:
        UserError: an input is missing or empty, `out` holds other files, no image can be read, or
            there are too few answers for `k` choices, or the format has none.
    """
    write, files = _FORMATS[form]
    if k is not None and form not in _WITH_CHOICES:
        raise UserError(f"--choices needs --format {' or '.join(_WITH_CHOICES)}, not {form}.")
    rows, messages = _read_rows(chosen)
    if borrowed := credit_warning(config):
        messages.append(f"warning: {borrowed}")
    blind = [] if k is None else _add_choices(rows, k, config)
    all_rows = [row for part in rows.values() for row in part]
    columns = export_columns(all_rows[0])
    _refuse_foreign(out, files)
    with (
        open_archive(config.data.raw) as archive,
        resumable_folder(out, _key(rows, archive, form)) as (folder, journal),
    ):
        messages += _correct_paths(rows, archive)
        if journal.images:
            messages.append(f"{journal.images:,} images are left from an interrupted export")
        splits = [_finished_split(name, part, archive, folder, journal, write)
                  for name, part in rows.items()]  # fmt: skip
        if empty := [split.name for split in splits if not split.rows]:
            raise UserError(f"no image of the {empty[0]} split can be read from {config.data.raw}.")
        if form != "parquet":
            _describe_exchange(config, folder, form, splits)
            messages += _missing_for_pandas(all_rows) if form == "vlmeval" else []
        else:
            card = render_export_card(config, all_rows, splits, columns, blind)
            (folder / "README.md").write_text(card, encoding="utf-8")
            described = answer_description(row["answer"] for row in all_rows)
            if not _write_croissant(config, folder, described, columns, splits):
                messages.append(f"croissant.json left out: it needs mlcroissant ({INSTALL_HINT})")
    return "\n".join([*messages, *_summary(out, splits, blind)])


def _key(rows: _Rows, archive: Archive, form: str) -> str:
    """Return a fingerprint of everything that the files depend on."""
    raw = Path(archive.raw)  # the folder of the pin, if the archives are on object storage
    files = [path for path in sorted(raw.glob("*")) if path.is_file()]
    dates = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    code = [file_md5(path) for path in sorted(Path(__file__).parent.glob("*.py"))]
    parts = [
        [name, fingerprint(part[start : start + _ROWS_AT_ONCE])]
        for name, part in rows.items()
        for start in range(0, len(part), _ROWS_AT_ONCE)
    ]
    return fingerprint([form, parts, str(raw.resolve()), dates, code])


def _finished_split(
    name: str,
    rows: Sequence[Row],
    archive: Archive,
    folder: Path,
    journal: ExportJournal,
    write: _Writer,
) -> ExportedSplit:
    """Return a split that an earlier attempt has finished, or write what is missing of it."""
    if (split := journal.finished(name)) is None:
        split = write(name, rows, archive, folder, journal)
        journal.finish(split)
    return split


def _summary(
    out: Path,
    splits: Sequence[ExportedSplit],
    blind: Sequence[tuple[str, float]],
) -> list[str]:
    """Return what was written, one line per fact."""
    rows, images, unreadable = (
        sum(getattr(split, name) for split in splits) for name in ("rows", "images", "unreadable")
    )
    lines = [f"{rows:,} questions, {images:,} images → {out}"]
    if unreadable:
        lines.append(f"{unreadable:,} questions left out: their image can't be read")
    if blind:
        shares = ", ".join(f"{label} {share:.1%}" for label, share in blind)
        lines.append(f"right choices without the image: {shares}")
    return lines


def _read_rows(chosen: Mapping[str, str] | None) -> tuple[_Rows, list[str]]:
    """Read both sides of the split, one dict per row.

    Returns:
        The rows by split, and messages on how columns were recognised, if that isn't obvious.

    Raises:
        UserError: the pipeline hasn't been run, or one side is empty.
    """
    missing = [str(path) for path in (*_SPLITS.values(), *_INPUTS) if not path.exists()]
    if missing:
        raise UserError(
            f"nothing to export: no {', '.join(missing)}. Run `dvc repro split` first "
            "(it makes the VQA set and splits it)."
        )
    rows: _Rows = {}
    messages = []
    for name, path in _SPLITS.items():
        columns = read_columns(path, ("image_path", "question", "answer"), chosen=chosen)
        table = columns.frame
        if table.empty:
            raise UserError(f"{path} has no rows. Run `dvc repro split`.")
        if columns.renames:
            messages.append(columns.describe())
        messages += columns.blank_warnings()
        if "row_id" not in table or not table["row_id"].str.fullmatch(r"[0-9]+").all():
            first = sum(map(len, rows.values()))
            table["row_id"] = range(first, first + len(table))
        table["question_type"] = table["question"].map(question_type)
        names = tuple(map(str, table))
        values = zip(*(table[column].tolist() for column in table), strict=True)
        rows[name] = [dict(zip(names, row, strict=True)) for row in values]
    return rows, messages


def _correct_paths(rows: _Rows, archive: Archive) -> list[str]:
    """Replace image paths by the archive's own spelling of them, where it has one.

    Returns:
        A message on how many were replaced, if any.
    """
    known = set(archive.image_paths())
    unknown = [row for part in rows.values() for row in part if row["image_path"] not in known]
    index = ImageIndex(known if unknown else ())
    match = index.match([row["image_path"] for row in unknown])
    for row, path in zip(unknown, match.paths, strict=True):
        row["image_path"] = path or row["image_path"]
    return [f"other spellings: {match.describe(str(archive.raw))}"] if match.found else []


def _add_choices(rows: _Rows, k: int, config: Config) -> list[tuple[str, float]]:
    """Add the columns `choices` and `answer_index` to all rows.

    Both sides are sampled from together, in the order of the VQA table: a question's distractors
    don't depend on the side that it is on.

    Returns:
        What frequency alone gets right, labelled.
    """
    all_rows = sorted(
        (row for part in rows.values() for row in part), key=lambda row: int(row["row_id"])
    )
    answers = {normalise(row["answer"]) for row in all_rows}
    equivalent = synonym_test(config.evaluate.aliases, answers)
    sampler = DistractorSampler(all_rows, k, config.seed, equivalent)
    choices = [sampler.choices(index) for index in range(len(all_rows))]
    for row, choice in zip(all_rows, choices, strict=True):
        row["choices"], row["answer_index"] = choice.options, choice.answer
    accuracy = blind_choice_accuracy(all_rows, choices, config.seed)
    return [(BLIND_CHOICE_LABELS[name], share) for name, share in accuracy.items()]


def _write_croissant(
    config: Config,
    folder: Path,
    answers: str,
    columns: Sequence[ExportColumn],
    splits: Sequence[ExportedSplit],
) -> bool:
    """Write croissant.json; return whether mlcroissant is there to do so."""
    rows, images = (sum(getattr(split, name) for split in splits) for name in ("rows", "images"))
    metadata = croissant_metadata(
        name="abo-vqa",
        description=f"{rows:,} questions with {answers} about {images:,} product images; how the "
        "set was made and its known biases: README.md.",
        licence=licence_url(config),
        citation=config.data.attribution,
        version=version("abo-vqa"),
        columns=columns,
        splits=splits,
    )
    if metadata is None:
        return False
    write_json(metadata, folder / "croissant.json")
    return True


def _describe_exchange(
    config: Config, folder: Path, form: str, splits: Sequence[ExportedSplit]
) -> None:
    """Write README.md of a format that isn't a hub's, and lmms-eval's task."""
    counts = "".join(f"- {s.name}: {s.rows:,} questions, {s.images:,} images\n" for s in splits)
    text = (
        f"# Questions about product images\n\n{READMES[form]}\n\n{counts}\n"
        f"Licence of the data: {licence_url(config)}. {config.data.attribution}\n"
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    if form == "lmms-eval":
        write_lmms_eval_task(folder)
    if form == "llava":
        write_llamafactory_info(folder, [split.name for split in splits])


def _missing_for_pandas(rows: Sequence[Row]) -> list[str]:
    """Warn of answers and choices that VLMEvalKit will take for missing."""
    cells = [set(row.get("choices", (row["answer"],))) for row in rows]
    affected = sum(bool(texts & _PANDAS_MISSING) for texts in cells)
    if not affected:
        return []
    return [
        f"warning: {affected:,} rows have an answer or a choice, such as 'None', that VLMEvalKit "
        "reads as missing, since it reads tables with pandas"
    ]


def _refuse_foreign(out: Path, files: Sequence[str]) -> None:
    """Check that the export replaces nothing but an earlier export of the same format.

    Raises:
        UserError: `out` holds something that isn't part of an export.
    """
    known = {"README.md", *files}
    foreign = sorted(p.name for p in out.iterdir() if p.name not in known) if out.is_dir() else []
    if foreign or out.is_file():
        raise UserError(
            f"--out {out} holds {foreign[0] if foreign else 'a file'}, which isn't part of an "
            "export and would be lost. Choose another folder, or remove it."
        )
