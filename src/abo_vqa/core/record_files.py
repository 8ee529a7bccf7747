"""Tables of questions and answers in other formats than CSV: JSON, JSON Lines and Parquet.

JSON is a list of flat records; LLaVA's conversations, one record per image; or VQAv2's questions
and annotations, merged in one file or as two files of a folder. Each becomes the columns that the
file's own format names; what they mean is found as for a CSV.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.core.csvfile import ParsedCsv
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_records import load_json_records
from abo_vqa.core.parquet_records import (
    PARQUET_SUFFIX,
    parquet_files,
    read_parquet_columns,
    read_parquet_rows,
    read_parquet_texts,
)
from abo_vqa.core.text_columns import TextColumns, cell_text, is_clean, text_frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

JSON_SUFFIXES = (".json", ".jsonl")
_IMAGE_TOKEN = "<image>"
_ASKING, _ANSWERING = ("human", "user"), ("gpt", "assistant")
_IMAGES = ("image", "images")  # columns that hold an image, or a list of them
_COCO_SUBSETS = ("train2014", "val2014", "test2015")  # whose files are named by number
_EXPECTED = (
    "Known are a list of records (image, question, answer), LLaVA's conversations, and VQAv2's "
    "questions and annotations"
)

_Record = Mapping[str, Any]


def read_records(path: Path) -> ParsedCsv:
    """Read a JSON, JSON Lines or Parquet file, or a folder of Parquet or of VQAv2's two files.

    Args:
        path: the file; its suffix says what it is.

    Returns:
        The records as strings. Conversations without an image are left out. In a folder of Parquet,
        records are numbered among all files, in the order of their names.

    Raises:
        UserError: It is missing, damaged, too large, or isn't one of the known formats.
    """
    if path.is_dir():
        if files := parquet_files(path):
            return _joined([_parquet_table(file) for file in files])
        return _parsed(path, _numbered(_vqav2_rows(path, *_vqav2_folder(path))))
    if not path.is_file():
        raise UserError(f"no table at {path}. Check the path, or run the stage that makes it.")
    if path.suffix.lower() == PARQUET_SUFFIX:
        return _parquet_table(path)
    value = load_json_records(path)
    if isinstance(value, dict) and {"questions", "annotations"} <= value.keys():
        return _parsed(path, _numbered(_vqav2_rows(path, value, value)))
    if isinstance(value, dict) and ("questions" in value or "annotations" in value):
        raise UserError(
            f"{path} is one of VQAv2's two files. Put its questions and its annotations into a "
            "folder of their own, and name the folder."
        )
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        raise UserError(f"{path} isn't a list of records. {_EXPECTED}.")
    if not value:
        raise UserError(f"{path} holds no records.")
    if any("conversations" in record or "messages" in record for record in value):
        return _parsed_conversations(path, value)
    return _parsed(path, _numbered(value))


def is_record_file(path: Path) -> bool:
    """Whether a path names such a file, by its suffix, or a folder."""
    return path.is_dir() or path.suffix.lower() in (*JSON_SUFFIXES, PARQUET_SUFFIX)


def _numbered(rows: Iterable[_Record]) -> Iterator[tuple[int, _Record]]:
    """Number rows that are records of their own, from 1."""
    return enumerate(rows, 1)


def _parsed_conversations(path: Path, records: Sequence[_Record]) -> ParsedCsv:
    """Return LLaVA's or ShareGPT's conversations as a table; those of text alone are left out.

    Raises:
        UserError: None has an image, or see `_llava_rows`.
    """
    about_images = [
        (place, record) for place, record in _numbered(records) if not _is_text_alone(record)
    ]
    if not about_images:
        raise UserError(
            f"{path}: none of its {len(records):,} conversations has an image. Each that is to be "
            "read needs the path of one as `image` or `images`."
        )
    parsed = _parsed(path, _llava_rows(path, about_images))
    if left_out := len(records) - len(about_images):
        text = f"{left_out:,} of {len(records):,} conversations have no image and are left out"
        return replace(parsed, left_out=text)
    return parsed


def _is_text_alone(record: _Record) -> bool:
    """Whether a conversation names no image and doesn't speak of one, as in LLaVA's own mix."""
    turns = record.get("conversations", record.get("messages"))
    image = record.get("image", record.get("images"))
    if image not in (None, "", []) or not isinstance(turns, list):
        return False
    return not any(_IMAGE_TOKEN in _turn(turn)[1] for turn in turns)


def _llava_rows(
    path: Path, records: Iterable[tuple[int, _Record]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the record's number and a row for each question and answer of conversations.

    Raises:
        UserError: A record hasn't exactly one image, or its turns aren't questions and answers by
            turns.
    """
    for place, record in records:
        turns = record.get("conversations", record.get("messages"))
        image = record.get("image", record.get("images"))
        if isinstance(image, list) and len(image) == 1:
            image = image[0]
        if isinstance(image, dict):  # ms-swift's and datasets' form
            image = image.get("path")
        if not isinstance(image, str):
            raise UserError(
                f"{path}, record {place}: a conversation needs the path of one image as `image`, "
                f"found {_excerpt(image)}. Leave out records of several images."
            )
        messages = [_turn(turn) for turn in turns] if isinstance(turns, list) else []
        messages = messages[1:] if messages and messages[0][0] == "system" else messages
        asked, answered = messages[::2], messages[1::2]
        if (
            not messages
            or len(asked) != len(answered)
            or any(who not in _ASKING for who, _ in asked)
            or any(who not in _ANSWERING for who, _ in answered)
        ):
            raise UserError(
                f"{path}, record {place}: the turns of a conversation must be a question (from "
                "human or user) and its answer (from gpt or assistant) by turns, each a text."
            )
        for (_, question), (_, answer) in zip(asked, answered, strict=True):
            row = {"image": image, "question": _without_token(question), "answer": answer}
            yield place, row


def _turn(turn: Any) -> tuple[str, str]:
    """Return who speaks, and the text; ("", "") if that isn't a turn."""
    if not isinstance(turn, dict):
        return "", ""
    who, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if isinstance(text, list):  # the parts of a message to a chat service
        parts = [part for part in text if isinstance(part, dict) and part.get("type") == "text"]
        text = parts[0].get("text") if len(parts) == 1 else None
    return (who, text) if isinstance(who, str) and isinstance(text, str) else ("", "")


def _without_token(question: str) -> str:
    """Remove the token that stands for the image, with the line break that sets it apart."""
    if _IMAGE_TOKEN not in question:
        return question
    return question.replace(f"{_IMAGE_TOKEN}\n", "").replace(_IMAGE_TOKEN, "").rstrip("\n")


def _vqav2_folder(folder: Path) -> tuple[_Record, _Record]:
    """Read the two files of a folder: one with questions, one with annotations.

    Raises:
        UserError: There aren't exactly these two.
    """
    files = sorted(folder.glob("*.json"))
    if len(files) == 2:
        contents = [load_json_records(file) for file in files]
        for one, other in (contents, contents[::-1]):
            both = isinstance(one, dict) and isinstance(other, dict)
            if both and "questions" in one and "annotations" in other:
                return one, other
    example = f" For one table, name the file, e.g. {files[0]}." if files else ""
    raise UserError(
        f"{folder} is a folder: it must hold a table's Parquet files, or two JSON files, VQAv2's "
        f"questions and its annotations. It has {len(files)} JSON file(s) and no Parquet.{example}"
    )


def _vqav2_rows(path: Path, asked: _Record, answered: _Record) -> Iterator[dict[str, Any]]:
    """Yield a row for each annotated question.

    Raises:
        UserError: An entry lacks what it needs, or a question has no annotation.
    """
    subset = cell_text(asked.get("data_subtype") or answered.get("data_subtype"))
    answers = {}
    for entry in _entries(path, answered, "annotations", ("question_id",)):
        answers[cell_text(entry["question_id"])] = _vqav2_answer(path, entry)
    for entry in _entries(path, asked, "questions", ("question_id", "image_id", "question")):
        name = cell_text(entry["question_id"])
        if name not in answers:
            raise UserError(
                f"{path}: question {name} has no annotation. Do the two files belong together?"
            )
        image = entry.get("image", entry["image_id"])
        if isinstance(image, int) and subset in _COCO_SUBSETS:
            image = f"COCO_{subset}_{image:012}.jpg"
        yield {"image_path": image, "question": entry["question"], "answer": answers[name]}


def _vqav2_answer(path: Path, entry: _Record) -> Any:
    """Return the answer that most people gave; of several, the first.

    Raises:
        UserError: The annotation holds none.
    """
    if "multiple_choice_answer" in entry:
        return entry["multiple_choice_answer"]
    answers = entry.get("answers")
    given = answers if isinstance(answers, list) else []
    texts = [cell_text(item.get("answer")) for item in given if isinstance(item, dict)]
    if not texts:
        raise UserError(
            f"{path}: the annotation of question {cell_text(entry['question_id'])} has neither "
            "multiple_choice_answer nor answers."
        )
    return max(texts, key=texts.count)


def _entries(path: Path, holder: _Record, key: str, needed: Sequence[str]) -> list[_Record]:
    """Return VQAv2's questions or annotations.

    Raises:
        UserError: They aren't a list of objects with what is needed.
    """
    entries = holder[key]
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and set(needed) <= entry.keys() for entry in entries
    ):
        raise UserError(f"{path}: {key} must be a list of objects with {', '.join(needed)}.")
    return entries


def _parsed(
    path: Path, records: Iterable[tuple[int, _Record]], names: Sequence[str] = ()
) -> ParsedCsv:
    """Return records as a table of strings; a record without a key has an empty cell.

    Args:
        path: the file, for messages.
        records: what it holds, each with the record's number.
        names: columns that it has even without a record.

    Raises:
        UserError: A text isn't Unicode, or holds zero bytes, or a record has several images.
    """
    columns, places = TextColumns(), array("q")  # no object for each row
    for place, record in records:
        row = {}
        for name, value in record.items():
            key = str(name)
            if key.lower() in _IMAGES:
                value = _one_image(path, place, key, value)
            row[key] = text = cell_text(value)
            if not is_clean(text):
                raise UserError(
                    f"{path}, record {place}: {_excerpt(key)} holds zero bytes or half a character "
                    "(a lone surrogate). Remove it."
                )
        columns.append(row)
        places.append(place)
    return _as_parsed(columns.frame(names), np.array(places, dtype=np.int64))


def _as_parsed(frame: pd.DataFrame, places: NDArray[np.int64]) -> ParsedCsv:
    return ParsedCsv(frame, places, "", tuple(map(str, frame)), ())


def _parquet_table(path: Path) -> ParsedCsv:
    names, texts = read_parquet_columns(path), read_parquet_texts(path)
    if texts is None:
        return _parsed(path, _numbered(read_parquet_rows(path)), names)
    frame = text_frame(texts)
    return _as_parsed(frame, np.arange(1, len(frame) + 1, dtype=np.int64))


def _joined(tables: Sequence[ParsedCsv]) -> ParsedCsv:
    """Return tables of the same columns as one."""
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    return _as_parsed(frame, np.arange(1, len(frame) + 1, dtype=np.int64))


def _one_image(path: Path, place: int, name: str, value: Any) -> Any:
    """Return the image of a list of one, as its path if it is an object with a path.

    Raises:
        UserError: There are several.
    """
    if isinstance(value, list) and len(value) > 1:
        raise UserError(
            f"{path}, record {place}: {name} has {len(value):,} images, and a question is about "
            "one. Leave out records of several images."
        )
    if isinstance(value, list):
        value = value[0] if value else None
    return value.get("path") if isinstance(value, dict) else value


def _excerpt(value: Any) -> str:
    """A value in a message, not too long."""
    return repr(value)[:60] if value is not None else "none"
