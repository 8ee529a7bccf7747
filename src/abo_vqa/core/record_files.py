"""Tables of questions and answers in other formats than CSV: JSON, JSON Lines and Parquet.

JSON is a list of flat records; LLaVA's conversations, one record per image; or VQAv2's questions
and annotations, merged in one file or as two files of a folder. Each becomes the columns that the
file's own format names; what they mean is found as for a CSV.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import ArrowException, parquet, types

from abo_vqa.core.csvfile import ParsedCsv
from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.files import decode_text

JSON_SUFFIXES = (".json", ".jsonl")
PARQUET_SUFFIX = ".parquet"
_IMAGE_TOKEN = "<image>"
_ASKING, _ANSWERING = ("human", "user"), ("gpt", "assistant")
_COCO_SUBSETS = ("train2014", "val2014", "test2015")  # whose files are named by number
_MAX_BYTES = 1 << 30  # parsed JSON takes several times its size
_EXPECTED = (
    "Known are a list of records (image, question, answer), LLaVA's conversations, and VQAv2's "
    "questions and annotations"
)

_Record = Mapping[str, Any]


def read_records(path: Path) -> ParsedCsv:
    """Read a JSON, JSON Lines or Parquet file, or a folder with VQAv2's two files.

    Args:
        path: the file; its suffix says what it is.

    Returns:
        The records as strings; a record's line is its position, from 1.

    Raises:
        UserError: It is missing, damaged, too large, or isn't one of the known formats.
    """
    if path.is_dir():
        return _parsed(path, _vqav2_rows(path, *_vqav2_folder(path)))
    if not path.is_file():
        raise UserError(f"no table at {path}. Check the path, or run the stage that makes it.")
    if path.suffix.lower() == PARQUET_SUFFIX:
        return _read_parquet(path)
    value = _load_json(path)
    if isinstance(value, dict) and {"questions", "annotations"} <= value.keys():
        return _parsed(path, _vqav2_rows(path, value, value))
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
        return _parsed(path, _llava_rows(path, value))
    return _parsed(path, value)


def is_record_file(path: Path) -> bool:
    """Whether a path names such a file, by its suffix, or a folder."""
    return path.is_dir() or path.suffix.lower() in (*JSON_SUFFIXES, PARQUET_SUFFIX)


def _load_json(path: Path) -> Any:
    """Parse a JSON file, or each line of a JSON Lines file.

    Raises:
        UserError: It is too large, nested too deeply, or isn't JSON in UTF-8 or UTF-16.
    """
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise UserError(
            f"{path} has {size >> 20:,} MiB; JSON is read up to {_MAX_BYTES >> 20:,} MiB. "
            "Save the table as CSV or Parquet, without the images themselves."
        )
    try:
        text = decode_text(path.read_bytes())
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} isn't UTF-8 text ({error.reason} at byte {error.start}). Save it in UTF-8."
        ) from error
    try:
        if path.suffix.lower() == ".jsonl":
            return [_parse(line) for line in text.split("\n") if line.strip()]
        return _parse(text)
    except json.JSONDecodeError as error:
        lines = " If each line is a record, name it .jsonl." if error.msg == "Extra data" else ""
        raise UserError(f"{path} isn't valid JSON: {error}.{lines}") from error
    except (RecursionError, ValueError) as error:
        raise UserError(f"{path} can't be read as JSON: {first_line(error)}.") from error


def _parse(text: str) -> Any:
    """Parse JSON; NaN, which pandas writes for an empty cell, is null."""
    return json.loads(text, parse_constant=lambda _: None)


def _llava_rows(path: Path, records: Sequence[_Record]) -> Iterator[dict[str, Any]]:
    """Yield a row for each question and answer of LLaVA's or ShareGPT's conversations.

    Raises:
        UserError: A record has no image, or its turns aren't questions and answers by turns.
    """
    for place, record in enumerate(records, 1):
        turns = record.get("conversations", record.get("messages"))
        image = record.get("image", record.get("images"))
        if isinstance(image, list) and len(image) == 1:
            image = image[0]
        if isinstance(image, dict):  # ms-swift's and datasets' form
            image = image.get("path")
        if not isinstance(image, str):
            raise UserError(
                f"{path}, record {place}: a conversation needs the path of one image as `image`, "
                f"found {_excerpt(image)}. Leave out records of text alone or of several images."
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
            yield {"image": image, "question": _without_token(question), "answer": answer}


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
        contents = [_load_json(file) for file in files]
        for one, other in (contents, contents[::-1]):
            both = isinstance(one, dict) and isinstance(other, dict)
            if both and "questions" in one and "annotations" in other:
                return one, other
    raise UserError(
        f"{folder} is a folder: it must hold two JSON files, VQAv2's questions and its "
        f"annotations. It has {len(files)} JSON file(s)."
    )


def _vqav2_rows(path: Path, asked: _Record, answered: _Record) -> Iterator[dict[str, Any]]:
    """Yield a row for each annotated question.

    Raises:
        UserError: An entry lacks what it needs, or a question has no annotation.
    """
    subset = _text(asked.get("data_subtype") or answered.get("data_subtype"))
    answers = {}
    for entry in _entries(path, answered, "annotations", ("question_id",)):
        answers[_text(entry["question_id"])] = _vqav2_answer(path, entry)
    for entry in _entries(path, asked, "questions", ("question_id", "image_id", "question")):
        name = _text(entry["question_id"])
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
    texts = [_text(item.get("answer")) for item in given if isinstance(item, dict)]
    if not texts:
        raise UserError(
            f"{path}: the annotation of question {_text(entry['question_id'])} has neither "
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


def _read_parquet(path: Path) -> ParsedCsv:
    """Read a Parquet file's texts and numbers, without its images' bytes.

    Raises:
        UserError: It isn't a Parquet file, or is damaged.
    """
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            binary = (types.is_binary, types.is_large_binary, types.is_struct)
            plain = [field.name for field in schema if not any(test(field.type) for test in binary)]
            paths = [
                field.name
                for field in schema
                if types.is_struct(field.type) and field.type.get_field_index("path") >= 0
            ]
            table = file.read([*plain, *(f"{name}.path" for name in paths)])
    except (ArrowException, OSError) as error:
        raise UserError(
            f"{path} isn't a Parquet file, or is damaged: {first_line(error)}. Export it again."
        ) from error
    columns = {name: table[name].to_pylist() for name in plain}
    columns |= {name: [(v or {}).get("path") for v in table[name].to_pylist()] for name in paths}
    names = list(columns)
    return _parsed(
        path,
        (dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)),
    )


def _parsed(path: Path, records: Iterator[_Record] | Sequence[_Record]) -> ParsedCsv:
    """Return records as a table of strings; a record without a key has an empty cell.

    Raises:
        UserError: A text isn't Unicode, or holds zero bytes.
    """
    rows = [{str(key): _text(value) for key, value in record.items()} for record in records]
    for place, row in enumerate(rows, 1):
        for key, value in row.items():
            if "\0" in value or not _is_unicode(value):
                raise UserError(
                    f"{path}, record {place}: {_excerpt(key)} holds zero bytes or half a character "
                    "(a lone surrogate). Remove it."
                )
    names = tuple(dict.fromkeys(key for row in rows for key in row))
    frame = pd.DataFrame(
        [[row.get(name, "") for name in names] for row in rows], columns=list(names), dtype=object
    )
    return ParsedCsv(frame, np.arange(1, len(rows) + 1, dtype=np.int64), ",", names, ())


def _is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8; JSON's escapes can make one that can't."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _text(value: Any) -> str:
    """Return a cell's text: none for null, JSON for what is nested."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | list | dict):
        return json.dumps(value, default=str)
    return str(value)


def _excerpt(value: Any) -> str:
    """A value in a message, not too long."""
    return repr(value)[:60] if value is not None else "none"
