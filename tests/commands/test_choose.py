"""Multiple choice by likelihood: tiny models on a small set of its own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import read_table
from abo_vqa.models.answering.finetuned import load_by_name
from abo_vqa.models.answering.multiple_choice import MultipleChoiceModel
from abo_vqa.models.answers import Answer, likeliest
from abo_vqa.models.base import VQAModel
from abo_vqa.reporting.publish.parquet import write_parquet_split
from abo_vqa.reporting.publish.resuming import ExportJournal
from tests.support import workspaces

CHOICES = (["red", "blue", "green", "white"], ["yes", "no"], ["wood", "metal", "glass", "cotton"])
QUESTIONS = ("what color is it?", "is it red?", "what is it made of?")


class Pictures:
    """An archive of tiny's pictures as JPEGs; the last one is damaged."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        for i, picture in enumerate(workspaces.pictures(5)):
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=95)
            self.files[f"{i}.jpg"] = out.getvalue()
        self.files["4.jpg"] = self.files["4.jpg"][:100]

    def read(self, path: str) -> bytes:
        return self.files[path]

    def image(self, path: str) -> None:
        """Whether it can be decoded is for the reader to find out."""


def rows() -> list[dict[str, Any]]:
    return [
        {"row_id": 100 + 3 * i + q, "image_path": f"{i}.jpg", "question": question,
         "answer": CHOICES[q][i % 2], "choices": CHOICES[q], "answer_index": i % 2}
        for i in range(5) for q, question in enumerate(QUESTIONS)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = workspaces.workspace(tmp_path_factory.mktemp("choose"), "blip")
    write_parquet_split(
        "test", rows(), Pictures(), root / "data/export", ExportJournal(root, "key")
    )  # type: ignore[arg-type]
    bare = [{k: v for k, v in row.items() if "choice" not in k} for row in rows()]
    write_parquet_split("train", bare, Pictures(), root / "data/export", ExportJournal(root, "key"))  # type: ignore[arg-type]
    return root


@pytest.fixture(autouse=True)
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def test_the_likeliest_choice(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["choose", "--model", "blip"]) == 0
    said = capsys.readouterr().out
    table = read_table("reports/choices/blip/predictions.csv")
    assert table["row_id"].tolist() == [str(100 + i) for i in range(15)]
    assert (table["error"].iloc[12:] != "").all()
    assert (table["prediction"].iloc[12:] == "").all()
    model, pictures = load_by_name("blip", load_config()), Pictures()
    for row, (_, found) in zip(rows()[:12], table.iterrows(), strict=False):
        image = Image.open(io.BytesIO(pictures.read(row["image_path"]))).convert("RGB")
        (scores,) = model.rank([image], [row["question"]], [row["choices"]])
        assert found["prediction"] == row["choices"][int(np.argmax(scores))]
        shares = np.exp(np.array(scores) - max(scores))
        assert float(found["confidence"]) == pytest.approx(1 / shares.sum(), abs=1e-4)
    right = (table["prediction"] == table["answer"]).sum()  # a row without an answer is wrong
    assert f"blip: {right / 15:.1%} of 15 rows [" in said
    assert "chance 33.3%" in said
    assert "3 without an answer" in said
    assert not list((here / ".cache/abo-vqa/choose").iterdir())


def test_the_first_of_equal_choices() -> None:
    assert likeliest(["a", "b", "c"], [-2000.0, -1000.0, -1000.0]) == Answer("b", 0.5)


def test_choices_outside_a_models_vocabulary() -> None:
    nothing = float("-inf")
    assert likeliest(["a", "b"], [nothing, -3.0]) == Answer("b", 1.0)
    assert likeliest(["a", "b"], [nothing, nothing]).error.startswith(
        "none of the choices is among"
    )


class Mute(VQAModel):
    """A family that gives no likelihoods."""

    def encode(self, prepared: Any) -> Any:
        return prepared

    def predict_answers(self, encoded: Any, which: Any, questions: Any) -> list[Answer]:
        return [Answer("red")] * len(questions)

    def record(self) -> dict[str, Any]:
        return {}


def test_a_family_that_cannot_rank() -> None:
    with pytest.raises(UserError, match="Mute can't rank choices by their likelihood"):
        MultipleChoiceModel(Mute())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--split", "validation"], "no validation split in data/export"),
        (["--split", "train"], "lacks the column(s) choices. Run `abo-vqa export"),
        (["--data", "gone"], "no test split in gone"),
    ],
)
def test_mistakes(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["choose", "--model", "blip", *arguments]) == 2
    assert told in capsys.readouterr().err


def write_set(**columns: Any) -> bytes:
    """A Parquet file of two rows, some of its columns replaced."""
    files = Pictures().files
    table = {name: [row[name] for row in rows()[:2]] for name in rows()[0]}
    table["image"] = [{"bytes": files[path], "path": path} for path in table["image_path"]]
    out = io.BytesIO()
    parquet.write_table(pa.table({**table, **columns}), out)
    return out.getvalue()


DAMAGED = {
    "a CSV": (b"row_id,image_path\n1,a.jpg\n", "isn't a Parquet file, or is damaged"),
    "empty": (b"", "isn't a Parquet file, or is damaged"),
    "cut off": (write_set()[:-100], "isn't a Parquet file, or is damaged"),
    "garbled": (b"PAR1" + bytes(400) + write_set()[404:], "isn't a Parquet file, or is damaged"),
    "text for choices": (write_set(choices=["a, b", "c, d"]), "another type than in an export"),
    "bytes for images": (write_set(image=[b"", b""]), "another type than in an export: image"),
    "no such choice": (write_set(answer_index=[0, 9]), "row_id 101: answer_index is 9, and there"),
    "no choices": (write_set(choices=[["a"], None]), "row_id 101: answer_index is 0, and there"),
    "no index": (write_set(answer_index=[0, None]), "row_id 101: answer_index is None"),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_file_that_is_no_export(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, told = DAMAGED[fault]
    path = tmp_path / "set.parquet"
    path.write_bytes(content)
    assert main(["choose", "--model", "blip", "--data", str(path)]) == 2
    said = capsys.readouterr().err
    assert str(path) in said
    assert told in said
    assert "export --choices 4` again" in said


def test_memory_that_runs_out_is_told_with_the_models_own_settings(project, monkeypatch, capsys):
    from abo_vqa.models.blip.model import Blip

    def full(*_):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.chdir(project)
    monkeypatch.setattr(Blip, "score_choices", full)
    assert main(["choose", "--model", "blip"]) == 2
    said = capsys.readouterr().err
    assert "for models.blip in the profile: dtype: bfloat16; quantize: 8bit." in said
