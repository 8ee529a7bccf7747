"""The export as others meet it: through `datasets`, through mlcroissant, through plain Parquet."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from pyarrow import parquet

from abo_vqa.cli import main
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.core.tables import read_table
from abo_vqa.data.archive import open_archive
from abo_vqa.data.normalise import normalise
from tests.support import ROOT
from tests.support.annotation import make, write_params

IMAGES, LOST = 24, "ff/ffffffff.jpg"
ANSWERS = (("red", "blue", "green", "white"), ("wood", "metal", "glass", "None"), ("yes", "no"))
QUESTIONS = ("What color is it?", "What is it made of?", "Is it striped?")


def fill(folder: Path) -> None:
    """What the pipeline leaves behind: both sides of the split, and the counts."""
    rows = make(folder, IMAGES)
    paths = [row["image_path"] for row in rows] + [LOST]
    table = pd.DataFrame(
        {"image_path": path, "question": question,
         "answer": ANSWERS[q][(i + i // 4) % len(ANSWERS[q])],
         "product_type": "lamp", "question_kind": "x", "annotator": "offline"}
        for i, path in enumerate(paths) for q, question in enumerate(QUESTIONS)
    )  # fmt: skip
    table["row_id"] = range(len(table))
    test = table["row_id"] >= 3 * (IMAGES - 4)
    # Rows in any order: the file puts a picture's rows together.
    table[~test].sample(frac=1, random_state=0).to_csv(folder / "data/train.csv", index=False)
    table[test].to_csv(folder / "data/test.csv", index=False)
    repository = ROOT
    for name in ("funnel", "generate", "verification", "audit"):
        shutil.copy(repository / "tests" / "support" / "tables" / f"{name}.json", folder / "data")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("project")
    fill(made)
    return made


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def exported(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["export", "--choices", "3"]) == 0
    return folder / "data/export"


def test_loads_with_datasets(exported: Path, here: Path, tmp_path: Path) -> None:
    import datasets

    loaded = datasets.load_dataset(str(exported), cache_dir=str(tmp_path))
    assert {name: part.num_rows for name, part in loaded.items()} == {"train": 60, "test": 12}
    test = loaded["test"]
    assert isinstance(test.features["image"], datasets.Image)
    assert test["row_id"] == list(range(60, 72))
    asked = pd.concat(
        [pd.read_csv(here / f"data/{n}.csv", keep_default_na=False) for n in ("train", "test")]
    ).set_index("row_id")
    with open_archive(here / "data/raw/sample") as archive:
        for row in [*loaded["train"], *test]:
            expected = asked.loc[row["row_id"]]
            assert (row["question"], row["answer"]) == (expected["question"], expected["answer"])
            assert row["image"].tobytes() == archive.image(expected["image_path"]).tobytes()
            assert normalise(row["choices"][row["answer_index"]]) == normalise(row["answer"])
            assert len(set(row["choices"])) == (2 if row["answer"] in ("yes", "no") else 3)
    assert "None" in asked["answer"].to_numpy()  # an answer, not a missing one
    assert "None" in [*loaded["train"]["answer"], *test["answer"]]


def test_croissant_validates_and_reads(exported: Path) -> None:
    import mlcroissant

    loaded = mlcroissant.Dataset(str(exported / "croissant.json"))
    assert loaded.metadata.ctx.issues.errors == set()
    rows = list(loaded.records("test"))
    assert len(rows) == 12
    assert rows[0]["test/question"] == QUESTIONS[0].encode()
    assert isinstance(rows[0]["test/image"], Image.Image)
    assert [c.decode() for c in rows[2]["test/choices"]] in (["yes", "no"], ["no", "yes"])
    told = json.loads((exported / "croissant.json").read_text())
    files = {f["@id"]: f for f in told["distribution"] if f["@type"] == "cr:FileObject"}
    assert set(files) == {str(p.relative_to(exported)) for p in exported.glob("data/*")}
    for name, file in files.items():
        data = (exported / name).read_bytes()
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
        assert file["contentSize"] == f"{len(data)} B"


def test_without_mlcroissant_all_else_is_written(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("abo_vqa.reporting.publish.croissant.mlc", None)
    assert main(["export", "--out", str(tmp_path / "out")]) == 0
    assert "croissant.json left out" in (printed := capsys.readouterr().out)
    assert "make setup EXTRAS=publish" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "data"]


def test_card_tells_the_runs_numbers(exported: Path) -> None:
    import yaml

    _, front, text = (exported / "README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["license"] == "mit"
    assert told["task_categories"] == ["visual-question-answering", "multiple-choice"]
    assert [s["num_examples"] for s in told["dataset_info"]["splits"]] == [60, 12]
    assert "72 questions with one-word answers about 24 images" in text
    assert "3 questions are left out because their image can't be read." in text
    assert "| no color | 28 |" in text
    assert "169 yes, 168 no (50.1% yes)" in text
    assert "23.0% of all rows can be answered without the image" in text
    assert "86.2% of the test rows ask a question that occurs in train" in text
    assert "most frequent answer to the same question |" in text
    assert "Drawn by this project" in text
    opinions = text[text.index("## Second opinion") : text.index("## Split")]
    assert "BLIP gives the generated answer to 30.8% of the questions" in opinions
    assert "| the settings ask for it (this set) | 2,001 | 667 |" in opinions


def test_again_gives_the_same_bytes(exported: Path, here: Path) -> None:
    before = {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()}
    (here / "data/.export.partial").mkdir()  # what a killed run leaves
    (here / "data/.export.partial/rest").touch()
    assert main(["export", "--choices", "3"]) == 0
    assert {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()} == before
    assert [path.name for path in (here / "data").glob(".export*")] == []


def test_a_failure_leaves_the_old_export(
    exported: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()}

    def broken(**_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("abo_vqa.reporting.publish.export.croissant_metadata", broken)
    with pytest.raises(OSError, match="disk full"):
        main(["export", "--choices", "3"])
    assert {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()} == before
    # What was whole is kept for the next call, which leaves nothing beside the export.
    monkeypatch.undo()
    monkeypatch.chdir(here)
    capsys.readouterr()
    assert main(["export", "--choices", "3"]) == 0
    assert "24 images are left from an interrupted export" in capsys.readouterr().out
    after = {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()}
    assert after == before
    assert [path.name for path in (here / "data").glob(".export*")] == []


def test_tables_of_other_people(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(here, tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    assert main(["export", "--out", "ours"]) == 0
    assert "other spellings" not in capsys.readouterr().out
    prefixes = {"train": "/kaggle/input/images/small/", "test": "small\\"}
    for name, prefix in prefixes.items():
        table = pd.read_csv(f"data/{name}.csv", dtype=str, keep_default_na=False)
        table["image_path"] = prefix + table["image_path"]
        theirs = {"image_path": "Img_Path", "question": "Query", "answer": "my word"}
        table.rename(columns=theirs).to_csv(f"data/{name}.csv", index=False, sep=";")
    assert main(["export", "--out", "theirs"]) == 2
    assert "--columns answer=NAME" in capsys.readouterr().err
    assert main(["export", "--out", "theirs", "--columns", "answer=my word"]) == 0
    said = capsys.readouterr().out
    assert "image_path ← 'Img_Path'" in said
    assert "24 of 25 images found" in said
    for part in ("train", "test"):
        one, two = (
            parquet.read_table(f"{made}/data/{part}-00000-of-00001.parquet").to_pylist()
            for made in ("ours", "theirs")
        )
        assert one == two
    Path("data/test.csv").write_text("image,question,answer\nx,what?,red\n")
    Path("data/train.csv").write_text("image,question,answer\nx,what?,red\n")
    assert main(["export", "--out", "none"]) == 2
    assert "no image of the train split can be read" in capsys.readouterr().err


def test_without_choices(here: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "export"
    assert main(["export", "--out", str(out)]) == 0
    table = parquet.read_table(out / "data/test-00000-of-00001.parquet")
    assert "choices" not in table.column_names
    assert Image.open(io.BytesIO(table["image"][0].as_py()["bytes"])).format == "JPEG"
    assert "Multiple choice" not in (out / "README.md").read_text()


def test_card_of_a_table_from_elsewhere(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No path of this machine; longer answers are counted, not called one word."""
    (tmp_path / "mine.csv").touch()
    monkeypatch.chdir(shutil.copytree(here, tmp_path / "copy"))
    table = read_table(Path("data/test.csv"))
    table.loc[:1, "answer"] = "stainless steel"
    table.to_csv("data/test.csv", index=False)
    write_params(Path(), annotator="file", file=str(tmp_path / "mine.csv"))
    assert main(["export", "--out", "out"]) == 0
    card, about = Path("out/README.md").read_text(), Path("out/croissant.json").read_text()
    for text in (card, about):
        assert "72 questions with short answers, 2 of several words, about 24" in text
        assert str(tmp_path) not in text
    assert "- questions and answers: the table mine.csv" in card
    write_params(Path(), annotator="local", model="llava")
    assert main(["export", "--out", "out"]) == 0
    card = Path("out/README.md").read_text()
    assert "- questions and answers: a vision-language model (models/sample/llava)" in card


def test_card_tells_of_this_set_or_says_nothing(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`reports/metrics.json` is in git and params.yaml is edited: dvc.lock knows what is whose."""
    monkeypatch.chdir(shutil.copytree(here, tmp_path / "copy"))
    write_json({"blind-ngram": {"accuracy": 0.4321}}, Path("reports/metrics.json"))
    lines = (
        "Baselines fitted on train that never see an image answer up to 43.2%",
        "By image, 20%",
    )

    def card() -> list[bool]:
        assert main(["export", "--out", "out"]) == 0
        text = Path("out/README.md").read_text()
        return [line in text for line in lines]

    def entry(*paths: str) -> list[dict[str, str]]:
        return [{"path": path, "md5": file_md5(path)} for path in paths]

    assert card() == [False, False]
    made = {"params.yaml": {"seed": 42, "split": {"group": "image", "test_size": 0.2}}}
    lock = {
        "split": {"outs": entry("data/train.csv", "data/test.csv"), "params": made},
        "evaluate": {"deps": entry("data/test.csv"), "outs": entry("reports/metrics.json")},
    }
    write_json({"schema": "2.0", "stages": lock}, Path("dvc.lock"))  # which is YAML, too
    assert card() == [True, True]
    Path("data/test.csv").write_text(Path("data/test.csv").read_text().replace("red", "green"))
    assert card() == [False, False]


def test_card_tells_how_much_of_this_test_set_can_be_right(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(here, tmp_path / "copy"))
    reviews = {"pairs": 120, "left_out": 0, "images": []}
    write_json(read_json("data/verification.json") | {"reviews": reviews}, "data/verification.json")
    wrong = {"share": 0.1, "low": 0.06, "high": 0.14}
    ceiling = {"accuracy": 0.912, "low": 0.88, "high": 0.94, "wrong": wrong, "pairs": 120,
               "raters": 2, "left_out": 3, "confidence": 0.95}  # fmt: skip
    write_json({"ceiling": ceiling}, "reports/evaluation.json")
    line = "- Of the test questions: at most about 91.2% can be right (95% interval 88.0 to 94.0)"

    def card() -> str:
        assert main(["export", "--out", "out"]) == 0
        return Path("out/README.md").read_text()

    assert "can be right" not in card()
    files = {
        part: [{"path": path, "md5": file_md5(path)}]
        for part, path in (("deps", "data/test.csv"), ("outs", "reports/evaluation.json"))
    }
    write_json({"schema": "2.0", "stages": {"evaluate": files}}, Path("dvc.lock"))
    assert line in card()
    Path("data/test.csv").write_text(Path("data/test.csv").read_text().replace("red", "green"))
    assert "can be right" not in card()


def test_card_names_the_models_that_chose_the_rows(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(here, tmp_path / "copy"))
    record = read_json("data/verification.json") | {"filtered_by": {"min_agreement": 0.5}}
    for filtered in (False, True):
        assert main(["export", "--out", "out"]) == 0
        card = Path("out/README.md").read_text()
        assert ("\n- BLIP: the same model, or the model it was fine-tuned" in card) == filtered
        write_json(record, "data/verification.json")


def test_mistakes(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thesis.txt").touch()
    assert main(["export", "--out", str(tmp_path)]) == 2
    assert "holds thesis.txt, which isn't part of an export" in capsys.readouterr().err
    for k in ("0", "1", "27"):
        assert main(["export", "--choices", k]) == 2
        assert f"--choices must be between 2 and 26, found {k}." in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    shutil.copytree(here / "conf", tmp_path / "conf")
    shutil.copy(here / "params.yaml", tmp_path)
    assert main(["export"]) == 2
    assert "Run `dvc repro split` first" in capsys.readouterr().err
