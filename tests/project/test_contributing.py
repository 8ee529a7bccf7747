"""The examples of CONTRIBUTING.md run as they stand, and are as short as it says."""

import argparse
import re
import shutil
import sys
import types
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from abo_vqa import cli
from abo_vqa.annotate import annotators
from abo_vqa.annotate.annotations import Annotations
from abo_vqa.annotate.quality_filter import QualityFilter
from abo_vqa.core.config import CheckpointConfig, ComputeConfig, Config, load_config
from abo_vqa.core.paths import DATA, VQA
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.data.pairs import Pair
from abo_vqa.evaluation import pair_scores
from abo_vqa.models.answers import Answer
from abo_vqa.models.base import VQAModel
from abo_vqa.reporting.figures.register import FIGURE_REGISTER, ReportFigure
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.style import Drawing, new_figure, report_style
from tests.support import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^## An? (\w+)\n.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.S))


def example(kind: str, **names: object) -> dict[str, object]:
    """The names that an example defines, run with these at hand."""
    found: dict[str, object] = dict(names)
    exec(compile(EXAMPLES[kind], f"CONTRIBUTING.md ({kind})", "exec", dont_inherit=True), found)
    return found


def test_there_are_five_and_each_is_short() -> None:
    assert list(EXAMPLES) == ["model", "metric", "annotator", "figure", "stage"]
    for kind, code in EXAMPLES.items():
        assert len([line for line in code.splitlines() if line.strip()]) < 15, kind


def test_model() -> None:
    names = example("model", VQAModel=VQAModel, Answer=Answer, torch=torch, Image=Image.Image,
                    Sequence=Sequence, CheckpointConfig=CheckpointConfig,
                    ComputeConfig=ComputeConfig)  # fmt: skip
    model = names["Constant"].load(None, None)
    image = Image.new("RGB", (8, 8))
    assert model.answer([image, image], ["is it?", "what is it?"]) == [Answer("white")] * 2


def test_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = dict(pair_scores.TEXT_METRICS)
    monkeypatch.setattr(pair_scores, "TEXT_METRICS", metrics)
    example("metric", TEXT_METRICS=metrics)
    scores = pair_scores.score_pairs([("red", "rose"), ("red", "blue")], ["same_initial"])
    by_pair = dict(zip(scores.distinct, scores.values["same_initial"], strict=True))
    assert by_pair == {("red", "rose"): 1.0, ("red", "blue"): 0.0}
    assert scores.signature["same_initial"].startswith("Return 1 if both texts start")


def test_annotator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotators, "ANNOTATORS", dict(annotators.ANNOTATORS))
    example("annotator", Annotations=Annotations, Pair=Pair, ANNOTATORS=annotators.ANNOTATORS)
    config = load_config(ROOT / "params.yaml")
    settings = config.generate.model_copy(update={"annotator": "color"})
    products = [{"image_path": "a.jpg", "name": "Mug", "product_type": "MUG", "color": "Red"}]
    found = annotators.run_annotator(
        config.model_copy(update={"generate": settings}), products, QualityFilter(1, False), no_log
    )
    assert [(row["question"], row["answer"]) for row in found.rows] == [
        ("What color is it?", "red")
    ]


def test_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = example("figure", Results=Results, Drawing=Drawing, new_figure=new_figure,
                    ReportFigure=ReportFigure)  # fmt: skip
    entry = names["entry"]
    test = pd.DataFrame({"question": ["is it?", "what color is it?", "is it red?"]})
    results = argparse.Namespace(test=test)
    with report_style():
        drawing = entry.plot(results)
    assert drawing.data["n"].tolist() == [1, 1, 1]
    assert entry.section in {figure.section for figure in FIGURE_REGISTER}


def test_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    DATA.mkdir()
    write_table(pd.DataFrame({"answer": ["red", "red", "None"]}), VQA)
    names = example("stage", Config=Config, Log=Log, no_log=no_log, Summary=Summary, VQA=VQA,
                    DATA=DATA, read_table=read_table, write_table=write_table, argparse=argparse,
                    execute=execute, load_config=load_config)  # fmt: skip
    module = types.ModuleType("abo_vqa.stages.answers")
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(cli.COMMANDS, "answers", (module.__name__, "how often each occurs"))
    assert cli.main(["answers"]) == 0
    assert capsys.readouterr().out == "2 answers → data/answers.csv\n"
    assert read_table("data/answers.csv").to_dict("list") == {"answer": ["red", "None"],
                                                              "n": ["2", "1"]}  # fmt: skip
