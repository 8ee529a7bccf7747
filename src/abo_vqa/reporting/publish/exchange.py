"""The set in the formats of other projects: LLaVA's conversations, VLMEvalKit's TSV, lmms-eval.

Each writer takes a split's rows and a folder, holds one image at a time, and records in a journal
what is whole, so that an interrupted export goes on there.
"""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from string import ascii_uppercase
from typing import Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import write_json
from abo_vqa.data import normalise
from abo_vqa.data.archive import Archive
from abo_vqa.reporting.export_format import ExportedSplit, Row
from abo_vqa.reporting.publish import lmms_eval_task
from abo_vqa.reporting.publish.image_rows import images_with_rows
from abo_vqa.reporting.publish.resuming import SAVE_EVERY, ExportJournal, length, open_at

IMAGE_TOKEN = "<image>"
"""What stands for the image in LLaVA's conversations."""
TASK = "abo_vqa"
"""The name by which the harnesses know the set."""
DATASET_INFO = "dataset_info.json"
"""The file in which LLaMA-Factory looks up data sets."""
_NORMALISE_IMPORT = "from abo_vqa.data.normalise import same_answer\n"
_FUTURE_IMPORT = "from __future__ import annotations\n"
_TASK_YAML = f"""\
task: {TASK}
dataset_path: parquet
dataset_kwargs:
  data_files: !function utils.DATA_FILES
test_split: test
output_type: generate_until
doc_to_visual: !function utils.doc_to_visual
doc_to_text: !function utils.doc_to_text
doc_to_target: answer
generation_kwargs:
  max_new_tokens: 16
process_results: !function utils.process_results
metric_list:
  - metric: accuracy
    aggregation: !function utils.mean_score
    higher_is_better: true
cluster_key: image_path
score_key: score
lmms_eval_specific_kwargs:
  default:
    pre_prompt: ""
    post_prompt: "\\nAnswer the question using a single word."
metadata:
  version: 1.1
"""


def write_llava_split(
    name: str, rows: Sequence[Row], archive: Archive, folder: Path, journal: ExportJournal
) -> ExportedSplit:
    """Write <name>.json, one conversation per image, and the images below images/.

    Args:
        name: of the split.
        rows: with image_path, question, answer.
        archive: where the images are read from.
        folder: the export's.
        journal: what is whole of it.

    Raises:
        UserError: a question holds the token that stands for the image, or an image's path leads
            out of the folder.
    """
    if taken := [row for row in rows if IMAGE_TOKEN in row["question"] + row["answer"]]:
        raise UserError(
            f"{len(taken):,} question(s) or answer(s) hold {IMAGE_TOKEN}, which LLaVA takes for an "
            f"image (e.g. {taken[0]['question']!r}). Remove it from the table."
        )
    at = journal.position(name)
    with open_at(folder / f"{name}.json", at.size) as out:
        for number, path, content, same in images_with_rows(rows, archive, name, at.done):
            target = folder / "images" / path
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise UserError(f"the image's path {path!r} leads out of the export.")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            record = {"id": path, "image": path, "conversations": _conversation(same)}
            out.write(("," if at.images else "[") + "\n" + json.dumps(record, ensure_ascii=False))
            at.done, at.images, at.rows = number, at.images + 1, at.rows + len(same)
            if at.images % SAVE_EVERY == 0:
                at.size = length(out)
                journal.save(name, at)
        out.write("\n]\n" if at.images else "[]\n")
    return ExportedSplit(name, at.rows, at.images, 0, len(rows) - at.rows, ())


def write_llamafactory_info(folder: Path, splits: Sequence[str]) -> None:
    """Write LLaMA-Factory's description of the files.

    Args:
        folder: the export's.
        splits: their names.
    """
    columns = {"messages": "conversations", "images": "image"}
    info = {
        f"{TASK}_{name}": {
            "file_name": f"{name}.json",
            "formatting": "sharegpt",
            "columns": columns,
        }
        for name in splits
    }
    write_json(info, folder / DATASET_INFO)


def _conversation(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the turns about an image; the first one shows it."""
    turns = []
    for place, row in enumerate(rows):
        question = row["question"] if place else f"{IMAGE_TOKEN}\n{row['question']}"
        turns.append({"from": "human", "value": question})
        turns.append({"from": "gpt", "value": row["answer"]})
    return turns


def write_tsv_split(
    name: str, rows: Sequence[Row], archive: Archive, folder: Path, journal: ExportJournal
) -> ExportedSplit:
    """Write abo_vqa_<name>.tsv for VLMEvalKit, multiple choice if the rows have choices.

    An image stands in its first row; the others name that row, as VLMEvalKit allows. `img_path` is
    for reading the table back: of the name `image_path`, VLMEvalKit expects files.

    Args:
        name: of the split.
        rows: with row_id, image_path, question, answer, question_type; choices and answer_index.
        archive: where the images are read from.
        folder: the export's.
        journal: what is whole of it.
    """
    letters = list(ascii_uppercase[: max(len(row.get("choices", ())) for row in rows)])
    header = ["index", "img_path", "image", "question", *letters, "answer", "category", "split"]
    at = journal.position(name)
    with open_at(folder / f"{TASK}_{name}.tsv", at.size) as out:
        writer = csv.DictWriter(out, header, delimiter="\t", lineterminator="\n")
        if not at.size:
            writer.writeheader()
        for number, path, content, same in images_with_rows(rows, archive, name, at.done):
            shared = {"img_path": path, "split": name}
            for row, image in zip(same, _image_cells(content, same), strict=True):
                writer.writerow(shared | {"image": image} | _cells(row))
            at.done, at.images, at.rows = number, at.images + 1, at.rows + len(same)
            if at.images % SAVE_EVERY == 0:
                at.size = length(out)
                journal.save(name, at)
    return ExportedSplit(name, at.rows, at.images, 0, len(rows) - at.rows, ())


def _image_cells(content: bytes, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the image in base64, then the first row's index."""
    yield base64.b64encode(content).decode("ascii")
    yield from [str(rows[0]["row_id"])] * (len(rows) - 1)


def _cells(row: Row) -> dict[str, Any]:
    """Return a row's cells apart from its image; the answer to a choice is its letter."""
    choices = dict(zip(ascii_uppercase, row.get("choices", ()), strict=False))
    answer = ascii_uppercase[row["answer_index"]] if choices else row["answer"]
    named = {"index": row["row_id"], "question": row["question"], "answer": answer}
    return named | choices | {"category": row["question_type"]}


def write_lmms_eval_task(folder: Path) -> None:
    """Write the task's settings and functions beside its Parquet files.

    The functions hold the source of this project's normalisation: the harness scores as the report
    does, without this package.

    Args:
        folder: the export's.
    """
    (folder / f"{TASK}.yaml").write_text(_TASK_YAML, encoding="utf-8")
    rules, functions = (
        Path(str(module.__file__)).read_text(encoding="utf-8")
        for module in (normalise, lmms_eval_task)
    )
    _, _, functions = functions.replace(_NORMALISE_IMPORT, "").partition(_FUTURE_IMPORT)
    (folder / "utils.py").write_text(rules + functions, encoding="utf-8")


READMES: Mapping[str, str] = {
    "llava": "One conversation per image. LLaVA: `--data_path train.json --image_folder images`. "
    f"LLaMA-Factory: `dataset: {TASK}_train`, with `dataset_dir` this folder and `media_dir` its "
    "images. ms-swift: `--dataset train.json`, with the variable `ROOT_IMAGE_DIR` naming images.",
    "vlmeval": f"Copy `{TASK}_test.tsv` to `$LMUData`, and run VLMEvalKit with `PRED_FORMAT=tsv` "
    f"and `--data {TASK}_test`. Multiple choice is scored there (`--judge exact_matching`); free "
    "answers are only written down: start with `--mode infer`, then `abo-vqa score` reads the "
    f"file. Before a changed set, remove `$LMUData/images/{TASK}_test` and "
    f"`$LMUData/{TASK}_test_local.tsv`: VLMEvalKit keeps images by the number of their row.",
    "lmms-eval": "With lmms-eval 0.6 or later: `python -m lmms_eval --include_path FOLDER "
    f"--tasks {TASK} --model …`, where FOLDER is this one. Answers are compared by the rules of "
    "abo-vqa's report; `Stderr_Clustered` counts the questions about an image as dependent.",
}
"""A format → how it is used, for the folder's README.md."""
