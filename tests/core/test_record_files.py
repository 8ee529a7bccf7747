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
TURN = {"from": "gpt", "value": ""}
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


def test_conversations_of_text_alone_are_left_out_and_counted(tmp_path: Path) -> None:
    """LLaVA's own mix has 40,000 of ShareGPT's, some of which begin with the model's turn."""
    strange = [{"from": "gpt", "value": "Hello."}]
    alone = [
        {"id": "t", "conversations": CONVERSATION["conversations"][2:]},
        {"id": "u", "image": "", "conversations": strange},
        {"id": "v", "images": [], "messages": [{"role": "user", "content": "Why?"}]},
    ]
    blank = {"image": "b.jpg", "conversations": [*CONVERSATION["conversations"][:1], TURN]}
    table = read_columns(write(tmp_path / "a.json", [*alone, CONVERSATION, blank]), ROLES)
    assert table.frame["image_path"].tolist() == ["fa/a.jpg", "fa/a.jpg", "b.jpg"]
    assert table.lines.tolist() == [4, 4, 5]
    assert "3 of 5 conversations have no image and are left out" in table.describe()
    assert "have no answer (record 5)" in table.blank_warnings()[0]
    whole = read_columns(write(tmp_path / "b.json", [CONVERSATION]), ROLES)
    assert "left out" not in whole.describe()
    with pytest.raises(UserError, match="none of its 3 conversations has an image"):
        rows(write(tmp_path / "c.json", alone))
    lost = {"id": "w", "conversations": CONVERSATION["conversations"]}  # it speaks of an image
    with pytest.raises(UserError, match="record 2: a conversation needs the path of one image"):
        rows(write(tmp_path / "d.json", [CONVERSATION, lost]))


def test_messages_about_records_name_no_separator(tmp_path: Path) -> None:
    records = [{"picture": "a.jpg", "question": "q", "answer": "x"}]
    with pytest.raises(UserError, match="Its records have 'picture', 'question', 'answer'") as one:
        rows(write(tmp_path / "a.json", records))
    assert "commas" not in str(one.value)
    parquet.write_table(pa.table({"answer": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="Its records have 'answer'"):
        rows(tmp_path / "a.parquet")
    table = read_columns(write(tmp_path / "b.json", [records[0] | {"image": "a.jpg"}]), ROLES)
    assert table.describe().endswith("b.json: columns image_path ← 'image', question, answer")


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


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(IMAGE),
        pa.large_list(IMAGE),
        pa.list_(pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])),
        pa.struct([("path", pa.string()), ("thumbnail", IMAGE)]),
        IMAGE,
    ],
)
@pytest.mark.parametrize("version", ["2.6", "1.0"])
def test_of_embedded_images_only_the_paths_are_read(
    tmp_path: Path, kind: pa.DataType, version: str
) -> None:
    value = {"bytes": b"\xff" * 9, "path": RED[0]}
    if kind.equals(IMAGE):
        cell: Any = value
    elif pa.types.is_struct(kind):
        cell = {"path": RED[0], "thumbnail": value}
    else:
        cell = [value]
    table = pa.table(
        {"images": pa.array([cell, None], kind), "question": [RED[1]] * 2, "answer": [RED[2]] * 2}
    )
    parquet.write_table(table, tmp_path / "a.parquet", version=version)
    assert rows(tmp_path / "a.parquet") == [RED, ("", *RED[1:])]


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.binary(3),
        pa.list_(pa.binary()),
        pa.large_list(pa.large_binary()),
        pa.list_(pa.list_(pa.binary(3))),
        pa.map_(pa.string(), pa.binary()),
        pa.list_(pa.struct([("bytes", pa.binary())])),
        pa.dictionary(pa.int32(), pa.binary()),
    ],
)
def test_bytes_are_left_out_at_any_depth(tmp_path: Path, kind: pa.DataType) -> None:
    flat = {name: [text] for name, text in zip(("image", "question", "answer"), RED, strict=True)}
    column = pa.array([None], kind)
    extra = {"tags": [["b", "c"]], "notes": pa.array([[("k", "v")]], pa.map_("string", "string"))}
    parquet.write_table(pa.table({"data": column} | flat | extra), tmp_path / "a.parquet")
    frame = read_columns(tmp_path / "a.parquet", ROLES).frame
    assert frame.to_dict("records") == [
        dict(zip(ROLES, RED, strict=True)) | {"tags": '["b", "c"]', "notes": '[["k", "v"]]'}
    ]


def test_lists_of_images_in_parquet_and_in_flat_records(tmp_path: Path) -> None:
    texts = {"question": RED[1], "answer": RED[2]}
    for number, images in enumerate((["fa/a.jpg"], [{"path": "fa/a.jpg"}], "fa/a.jpg")):
        record = texts | {"images": images}
        assert rows(write(tmp_path / f"{number}.json", [record])) == [RED]
        parquet.write_table(pa.Table.from_pylist([record]), tmp_path / "a.parquet")
        assert rows(tmp_path / "a.parquet") == [RED]
    several = [texts | {"images": ["a.jpg"]}, texts | {"images": ["a.jpg", "b.jpg"]}]
    parquet.write_table(pa.Table.from_pylist(several), tmp_path / "b.parquet")
    for path in (write(tmp_path / "b.json", several), tmp_path / "b.parquet"):
        with pytest.raises(UserError, match="record 2: images has 2 images, and a question is"):
            rows(path)


def test_parquet_without_rows_has_columns_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    empty = pa.table({name: pa.array([], pa.string()) for name in ROLES})
    parquet.write_table(empty, tmp_path / "a.parquet")
    assert rows(tmp_path / "a.parquet") == []
    double = pa.table([["a"], ["b"]], names=["answer", "answer"])
    parquet.write_table(double, tmp_path / "b.parquet")
    with pytest.raises(UserError, match="several columns called answer"):
        rows(tmp_path / "b.parquet")
    broken = pa.StringArray.from_buffers(
        1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")
    )
    parquet.write_table(pa.table({"answer": broken}), tmp_path / "c.parquet")
    with pytest.raises(UserError, match="is damaged"):
        rows(tmp_path / "c.parquet")


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


def test_a_folder_of_parquet_is_one_table(tmp_path: Path) -> None:
    """As exports and hubs have it: a folder `data` with the shards of train and of test."""
    shards = {"data/test-00000-of-00001": "z", "data/train-00000-of-00002": "x"}
    shards |= {"data/train-00001-of-00002": "y", "data/.partial": "w", ".old/a": "v"}
    for name, answer in shards.items():
        file = tmp_path / f"{name}.parquet"
        file.parent.mkdir(exist_ok=True)
        columns = {**dict(zip(ROLES, RED, strict=True)), "answer": answer}
        parquet.write_table(pa.Table.from_pylist([columns]), file)
    write(tmp_path / "dataset_info.json", {})
    assert [answer for *_, answer in rows(tmp_path)] == ["z", "x", "y"]
    assert read_columns(tmp_path, ROLES).lines.tolist() == [1, 2, 3]
    parquet.write_table(
        pa.Table.from_pylist([columns | {"options": "a"}]), tmp_path / "data/extra.parquet"
    )
    message = r"isn't one table: .*extra\.parquet and .*test-00000.* the column\(s\) options\. Name"
    with pytest.raises(UserError, match=message):
        rows(tmp_path)
    parquet.write_table(
        pa.Table.from_pylist([columns | {"image_path": "a\0"}]), tmp_path / "data/extra.parquet"
    )
    with pytest.raises(UserError, match=r"extra\.parquet, record 1: .* zero bytes"):
        rows(tmp_path)


def test_damaged_parquet_and_strange_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="isn't a Parquet file"):
        rows(write(tmp_path / "a.parquet", "image"))
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(UserError, match="must hold a table's Parquet files, or two JSON files"):
        rows(write(tmp_path / "train.json", [CONVERSATION]).parent)
    with pytest.raises(UserError, match="no table at"):
        rows(tmp_path / "none.json")


def test_texts_in_parquet_are_read_whole_and_a_zero_byte_is_named(tmp_path):
    folder = tmp_path / "t"
    folder.mkdir()
    for place, answers in enumerate((["None", None, ""], ["x"])):
        parquet.write_table(
            pa.table({"question": ["q"] * len(answers), "answer": answers}),
            folder / f"{place}.parquet",
        )
    columns = read_columns(folder, ("question", "answer"))
    assert columns.frame["answer"].tolist() == ["None", "", "", "x"]
    assert columns.lines.tolist() == [1, 2, 3, 4]
    parquet.write_table(
        pa.table({"question": ["q", "q"], "answer": ["x", "a\0b"]}), folder / "1.parquet"
    )
    with pytest.raises(UserError, match=r"1\.parquet, record 2: 'answer' holds zero bytes"):
        read_columns(folder, ("question", "answer"))
