"""Exports in others' formats: read as their projects read them, and read back."""

from __future__ import annotations

import base64
import csv
import importlib.util
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

from abo_vqa.cli import main
from abo_vqa.core.errors import UserError
from abo_vqa.data.columns import read_columns
from tests.support.exports import make_split_project

ROLES = ["image_path", "question", "answer"]
Row = tuple[str, ...]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = make_split_project(tmp_path_factory.mktemp("project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        yield made


def rows(path: Path) -> list[Row]:
    frame = read_columns(path, ROLES).frame
    return [tuple(row) for row in frame[ROLES].to_numpy()]


def export(name: str, *options: str) -> Path:
    assert main(["export", "--format", name, *options]) == 0
    return Path(f"data/export-{name}")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_llava_shows_each_image_once_and_reads_back(folder: Path) -> None:
    out = export("llava")
    before = contents(out)
    for name in ("train", "test"):
        records = json.loads((out / f"{name}.json").read_text())
        for record in records:
            assert Image.open(out / "images" / record["image"]).format == "JPEG"
            turns = record["conversations"]
            assert [turn["from"] for turn in turns] == ["human", "gpt"] * 3
            tokens = [turn["value"].count("<image>") for turn in turns]
            assert tokens == [1, 0, 0, 0, 0, 0]
            assert turns[0]["value"].startswith("<image>\n")
        assert len({record["id"] for record in records}) == len(records) == 4
        assert rows(out / f"{name}.json") == rows(Path(f"data/{name}.csv"))
    assert contents(export("llava")) == before


def test_vlmevalkit_finds_each_rows_image_and_text(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = export("vlmeval")
    assert "warning: 2 rows have an answer or a choice" in capsys.readouterr().out
    table = pd.read_csv(out / "abo_vqa_test.tsv", sep="\t")  # as VLMEvalKit loads it
    images = dict(zip(table["index"].astype(str), table["image"].astype(str), strict=True))
    for row in table.itertuples():
        # A short cell names the row that has the image.
        data = images[row.image] if len(row.image) <= 64 else row.image
        assert Image.open(io.BytesIO(base64.b64decode(data))).format == "JPEG"
    given = rows(Path("data/test.csv"))
    assert table["question"].tolist() == [question for _, question, _ in given]
    assert set(table["split"]) == {"test"}
    assert rows(out / "abo_vqa_test.tsv") == given
    shutil.rmtree(out)


def test_vlmevalkits_multiple_choice_has_letters(folder: Path) -> None:
    out = export("vlmeval", "--choices", "3")
    with (out / "abo_vqa_test.tsv").open(newline="", encoding="utf-8") as lines:
        table = list(csv.DictReader(lines, delimiter="\t"))
    for row, (_, _, answer) in zip(table, rows(Path("data/test.csv")), strict=True):
        assert row[row["answer"]] == answer
        filled = [letter for letter in "ABC" if row[letter]]
        assert filled == (["A", "B"] if answer in ("yes", "no") else ["A", "B", "C"])


class _TaskLoader(yaml.SafeLoader):
    """A loader that keeps lmms-eval's `!function utils.name` as that text."""


_TaskLoader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def test_lmms_evals_task_loads_asks_and_scores(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets

    out = export("lmms-eval")
    assert rows(out) == rows(Path("data/test.csv")) + rows(Path("data/train.csv"))
    task = yaml.load((out / "abo_vqa.yaml").read_text(), _TaskLoader)
    spec = importlib.util.spec_from_file_location("utils", (out / "utils.py").resolve())
    assert spec is not None and spec.loader is not None  # noqa: PT018
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)
    assert "abo_vqa" not in (out / "utils.py").read_text()
    functions: dict[str, Any] = {
        key: getattr(utils, value.removeprefix("utils."))
        for key, value in task.items() if str(value).startswith("utils.")
    }  # fmt: skip
    assert set(functions) == {"doc_to_visual", "doc_to_text", "process_results"}
    (metric,) = task["metric_list"]
    mean = getattr(utils, metric["aggregation"].removeprefix("utils."))
    monkeypatch.chdir(tmp_path)  # the harness may be started anywhere
    loaded = datasets.load_dataset(
        task["dataset_path"],
        cache_dir=str(tmp_path),
        data_files=getattr(utils, task["dataset_kwargs"]["data_files"].removeprefix("utils.")),
    )
    assert len(loaded["train"]) == 12
    for doc in loaded[task["test_split"]]:
        (image,) = functions["doc_to_visual"](doc)
        assert image.mode == "RGB"
        prompts = task["lmms_eval_specific_kwargs"]["default"]
        text = functions["doc_to_text"](doc, prompts)
        assert text == doc["question"] + "\nAnswer the question using a single word."
        right, wrong = (
            functions["process_results"](doc, [reply])
            for reply in (f" The {doc[task['doc_to_target']].upper()}", "orange")
        )
        scores = [reply[metric["metric"]] for reply in (right, wrong, wrong, wrong)]
        assert [score[task["score_key"]] for score in scores] == [1.0, 0.0, 0.0, 0.0]
        assert {score[task["cluster_key"]] for score in scores} == {doc["image_path"]}
        assert mean(scores) == 0.25


def test_parquet_reads_back(folder: Path) -> None:
    assert main(["export"]) == 0
    (path,) = Path("data/export/data").glob("test-*")
    assert rows(path) == rows(Path("data/test.csv"))


def test_what_a_format_lacks_is_refused(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    assert main(["export", "--format", "llava", "--choices", "3"]) == UserError.exit_code
    assert "--choices needs --format parquet or vlmeval" in capsys.readouterr().err
    assert main(["export", "--format", "llava", "--out", "data/raw"]) == UserError.exit_code
    assert "would be lost" in capsys.readouterr().err
    shutil.copytree(folder, tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    table = pd.read_csv("data/test.csv", keep_default_na=False)
    table.loc[0, "question"] = "Is <image> red?"
    table.to_csv("data/test.csv", index=False)
    assert main(["export", "--format", "llava", "--out", "out"]) == UserError.exit_code
    assert "hold <image>" in capsys.readouterr().err
    assert not Path("out").exists()
