"""Tables in JSON, JSON Lines and Parquet, by the names and shapes that other projects give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from abo_vqa.core.errors import UserError
from abo_vqa.data.columns import read_columns

ROLES = ("image_path", "question", "answer")
RED = ("fa/a.jpg", "What color\tis it?", "None")
CONVERSATION = {
    "id": "1",
    "image": "fa/a.jpg",
    "conversations": [
        {"from": "human", "value": "<image>\nWhat color\tis it?"},
        {"from": "gpt", "value": "None"},
        {"from": "human", "value": 'Is it "new"?'},
        {"from": "gpt", "value": "yes"},
    ],
}
BOTH = [RED, ("fa/a.jpg", 'Is it "new"?', "yes")]
ASKED = {
    "data_subtype": "val2014",
    "questions": [{"image_id": 42, "question": "What is it?", "question_id": 420}],
}
GIVEN = {"annotations": [{"question_id": 420, "image_id": 42, "multiple_choice_answer": "cat"}]}


def rows(path: Path) -> list[tuple[str, ...]]:
    frame = read_columns(path, ROLES).frame
    return [tuple(row) for row in frame[list(ROLES)].to_numpy()]


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.mark.parametrize("token", ["<image>\nWhat color\tis it?", "What color\tis it?\n<image>"])
def test_llavas_conversations_are_rows(tmp_path: Path, token: str) -> None:
    turns = [{"from": "human", "value": token}, *CONVERSATION["conversations"][1:]]
    assert rows(write(tmp_path / "a.json", [CONVERSATION | {"conversations": turns}])) == BOTH
    roles = [{"role": "system", "content": "Be brief."}]
    roles += [
        {"role": "user" if turn["from"] == "human" else "assistant", "content": turn["value"]}
        for turn in turns
    ]
    shared = {"messages": roles, "images": ["fa/a.jpg"]}
    assert rows(write(tmp_path / "b.jsonl", json.dumps(shared) + "\n\n")) == BOTH


def test_images_and_contents_as_trainers_write_them(tmp_path: Path) -> None:
    """ms-swift's images, the parts of a message to a chat service, Excel's encoding, no answer."""
    parts = [{"type": "image"}, {"type": "text", "text": "<image>What color\tis it?"}]
    messages = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": [{"type": "text", "text": "None"}]},
    ]
    records = [{"messages": messages, "images": [{"bytes": None, "path": "fa/a.jpg"}]}]
    assert rows(write(tmp_path / "a.json", records)) == [RED]
    (tmp_path / "u.json").write_bytes(json.dumps(records).encode("utf-16"))
    assert rows(tmp_path / "u.json") == [RED]
    missing = '[{"image": "a", "question": "q", "answer": NaN}]'
    assert rows(write(tmp_path / "n.json", missing)) == [("a", "q", "")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_spreadsheets(tmp_path: Path, encoding: str, separator: str) -> None:
    lines = [("ID", "Filename", "QUESTION", "Answer"), ("7", "a.jpg", "Is it?", "yes"), ("3",) * 4]
    text = "".join(separator.join(line) + "\r\n" for line in lines)
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    assert rows(tmp_path / "t.csv") == [("a.jpg", "Is it?", "yes"), ("3", "3", "3")]


def test_vqav2_in_a_folder_and_in_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "vqav2"
    folder.mkdir()
    write(folder / "v2_questions.json", ASKED)
    write(folder / "v2_annotations.json", GIVEN)
    expected = [("COCO_val2014_000000000042.jpg", "What is it?", "cat")]
    assert rows(folder) == expected
    ballot = [{"answer": answer} for answer in ("cat", "dog", "dog")]
    entry = {"question_id": 420, "answers": ballot}
    path = write(tmp_path / "both.json", ASKED | {"annotations": [entry]})
    assert rows(path) == [(*expected[0][:2], "dog")]
    with pytest.raises(UserError, match="one of VQAv2's two files"):
        rows(folder / "v2_questions.json")
    write(folder / "v2_annotations.json", {"annotations": []})
    with pytest.raises(UserError, match="question 420 has no annotation"):
        rows(folder)


def test_flat_records_and_parquet(tmp_path: Path) -> None:
    records = [dict(zip(("img_path", "Query", "gt_answer"), RED, strict=True)), {"img_path": "b"}]
    expected = [RED, ("b", "", "")]
    assert rows(write(tmp_path / "a.json", records)) == expected
    assert rows(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, records)))) == expected
    parquet.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    assert rows(tmp_path / "a.parquet") == expected
    image = {"bytes": b"\xff", "path": RED[0]}
    hub = pa.Table.from_pylist([{"image": image, "question": RED[1], "answer": RED[2]}])
    parquet.write_table(hub, tmp_path / "hub.parquet")
    assert rows(tmp_path / "hub.parquet") == [RED]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "can't be read as JSON|isn't valid JSON"),
        ('[{"a": 1', "isn't valid JSON"),
        ("[]", "holds no records"),
        ('{"image": "a"}\n{"image": "b"}\n', "If each line is a record, name it .jsonl"),
        ('{"a": 1}', "isn't a list of records. Known are"),
        ("[1, 2]", "isn't a list of records. Known are"),
        ('[{"image": "a", "conversations": 3}]', "record 1: the turns"),
        ('[{"image": "a", "conversations": [{"from": "gpt", "value": "x"}]}]', "record 1: the t"),
        ('[{"image": 3, "conversations": []}]', "needs the path of one image"),
        ('[{"image": "a\\u0000", "question": "q", "answer": "x"}]', "zero bytes or half"),
        ('[{"image": "a", "question": "\\ud800", "answer": "x"}]', "zero bytes or half"),
        ('{"questions": 3, "annotations": []}', "questions must be a list"),
        ("1" * 5000, "can't be read as JSON"),
        ('[{"image": "a", "question": "q"}]', "lacks the column answer"),
    ],
)
def test_what_is_hostile_or_unknown_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        rows(write(tmp_path / "a.json", text))
    assert len(str(caught.value)) < 700


def test_damaged_parquet_and_strange_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="isn't a Parquet file"):
        rows(write(tmp_path / "a.parquet", "image"))
    with pytest.raises(UserError, match="must hold two JSON files"):
        rows(tmp_path)
    with pytest.raises(UserError, match="no table at"):
        rows(tmp_path / "none.json")
