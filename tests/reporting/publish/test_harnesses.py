"""Exports, loaded and scored by the harnesses they are for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from abo_vqa.cli import main
from tests.support.exports import make_split_project
from tests.support.harnesses import LLAMAFACTORY, LMMS_EVAL, MS_SWIFT, VLMEVALKIT

pytestmark = pytest.mark.slow

# A task for models with a chat template, asked, and answered right for half of the rows.
_LMMS_EVAL = """
import json, sys
from lmms_eval.tasks import TaskManager, get_task_dict
manager = TaskManager(include_path=sys.argv[1], include_defaults=False)
task = get_task_dict(["abo_vqa"], manager, task_type="chat")["abo_vqa"]
docs, results = task.test_docs(), []
for place, doc in enumerate(docs):
    (message,) = task.doc_to_messages(doc)
    assert [part["type"] for part in message["content"]] == ["image", "text"]
    assert message["content"][1]["text"].startswith(doc["question"])
    reply = f"The {task.doc_to_target(doc).upper()}." if place % 2 else "orange"
    results.append(task.process_results(doc, [reply])["accuracy"])
print(json.dumps([len(docs), task.aggregation()["accuracy"](results)]))
"""
# Inference by an object in the place of a model, and the set's own evaluation, if it has one.
_VLMEVALKIT = """
import json, sys
from PIL import Image
from vlmeval.dataset import build_dataset
from vlmeval.inference import infer_data_job

class Model:
    is_api = False
    def __init__(self, replies): self.replies = replies
    def set_dump_image(self, function): pass
    def use_custom_prompt(self, dataset): return False
    def generate(self, message, dataset):
        shown, asked = message
        assert shown["type"] == "image" and asked["type"] == "text"
        Image.open(shown["value"]).load()
        return self.replies.pop(0)

name, work = sys.argv[1:]
data = build_dataset(name)
replies = [str(answer) if at % 2 else "Z" for at, answer in enumerate(data.data["answer"])]
infer_data_job(Model(replies), work, "half", data)
accuracy = None
if data.TYPE == "MCQ":
    table = data.evaluate(f"{work}/half_{name}.tsv", model="exact_matching")
    accuracy = float(table["Overall"][0])
print(json.dumps([type(data).__name__, len(data), accuracy]))
"""
# The rows as LLaMA-Factory aligns them, with the images' paths looked up.
_LLAMAFACTORY = """
import json, sys
from datasets import load_dataset
from llamafactory.data.converter import get_dataset_converter
from llamafactory.data.parser import get_dataset_list
from llamafactory.hparams.data_args import DataArguments

out = sys.argv[1]
arguments = DataArguments(dataset_dir=out, media_dir=f"{out}/images")
(attribute,) = get_dataset_list(["abo_vqa_train"], out)
convert = get_dataset_converter(attribute.formatting, attribute, arguments)
rows = load_dataset("json", data_files=f"{out}/{attribute.dataset_name}", split="train")
print(json.dumps([convert(row) for row in rows]))
"""
# The rows as ms-swift's own preprocessor turns them over.
_MS_SWIFT = """
import json, sys
from datasets import load_dataset
from swift.dataset.preprocessor.core import AutoPreprocessor
rows = load_dataset("json", data_files=f"{sys.argv[1]}/train.json", split="train")
print(json.dumps(list(AutoPreprocessor()(rows, num_proc=1, strict=True, enable_auto_mapping=True))))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = make_split_project(tmp_path_factory.mktemp("project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        yield made


@LMMS_EVAL.needed
def test_lmms_eval_asks_and_scores(folder: Path, tmp_path: Path) -> None:
    assert main(["export", "--format", "lmms-eval"]) == 0
    out = str(folder / "data/export-lmms-eval")
    printed = LMMS_EVAL.run("-c", _LMMS_EVAL, out, cwd=tmp_path)
    assert json.loads(printed.splitlines()[-1]) == [12, 0.5]
    LMMS_EVAL.run(
        "-m", "lmms_eval", "--include_path", out, "--tasks", "abo_vqa", "--model", "dummy",
        "--model_args", "response=red", "--output_path", "out", cwd=tmp_path,
    )  # fmt: skip
    (file,) = tmp_path.glob("out/**/*results.json")
    results = json.loads(file.read_text())["results"]["abo_vqa"]
    assert results["accuracy,none"] == pytest.approx(1 / 12)
    assert results["accuracy_stderr_clustered,none"] > 0


@VLMEVALKIT.needed
@pytest.mark.parametrize("choices", [(), ("--choices", "3")])
def test_vlmevalkit_asks_and_scores(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], choices: tuple[str, ...]
) -> None:
    assert main(["export", "--format", "vlmeval", *choices]) == 0
    shutil.copy("data/export-vlmeval/abo_vqa_test.tsv", tmp_path)
    printed = VLMEVALKIT.run(
        "-c", _VLMEVALKIT, "abo_vqa_test", str(tmp_path),
        cwd=tmp_path, LMUData=str(tmp_path), PRED_FORMAT="tsv",
    )  # fmt: skip
    name, rows, accuracy = json.loads(printed.splitlines()[-1])
    assert rows == 12
    if choices:
        assert (name, accuracy) == ("CustomMCQDataset", 0.5)
        return
    assert name == "CustomVQADataset"
    scores = tmp_path / "scores"
    file = str(tmp_path / "half_abo_vqa_test.tsv")
    assert main(["score", file, "--metrics", "exact_match", "--out", str(scores)]) == 0
    assert "resampled: 4 images" in capsys.readouterr().out
    assert pd.read_csv(scores / "scores.csv")["exact_match"].mean() == 0.5


def check_turns(turns: list[dict[str, str]]) -> None:
    """Question and answer by turns, and one token for the one image."""
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 3
    assert [turn["content"].count("<image>") for turn in turns] == [1, 0, 0, 0, 0, 0]


@LLAMAFACTORY.needed
def test_llamafactory_reads_conversations(folder: Path, tmp_path: Path) -> None:
    assert main(["export", "--format", "llava"]) == 0
    out = folder / "data/export-llava"
    rows = json.loads(
        LLAMAFACTORY.run(
            "-c", _LLAMAFACTORY, str(out), cwd=tmp_path, DISABLE_VERSION_CHECK="1"
        ).splitlines()[-1]
    )
    assert len(rows) == 4
    for row in rows:
        check_turns(row["_prompt"] + row["_response"])
        (image,) = row["_images"]
        assert (out / "images") in Path(image).parents
        assert Path(image).is_file()


@MS_SWIFT.needed
def test_ms_swift_reads_conversations(folder: Path, tmp_path: Path) -> None:
    assert main(["export", "--format", "llava"]) == 0
    out = folder / "data/export-llava"
    rows = json.loads(MS_SWIFT.run("-c", _MS_SWIFT, str(out), cwd=tmp_path).splitlines()[-1])
    assert len(rows) == 4
    for row in rows:
        check_turns(row["messages"])
        (image,) = row["images"]
        assert (out / "images" / image["path"]).is_file()
