"""The stage `baseline`: one row per question, candidates, kills."""

import itertools
import json
import re
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import ADAPTER
from abo_vqa.core.tables import read_table
from abo_vqa.models.answering import journal
from abo_vqa.models.candidates import candidates_for
from abo_vqa.models.embeddings.encodings import stored_encodings
from abo_vqa.stages import baseline as stage
from tests.support import ROOT, workspaces
from tests.support.forks import Fork, command
from tests.support.stages import answer_with_adapter, run_stage

SCRIPT = ROOT / "src/abo_vqa/__main__.py"
BLIP = Path("reports/baselines/blip/predictions.csv")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    return workspaces.workspace(root, "blip", "clip", "vilt", images=10, broken=1)


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    return project


def settings(root: Path, **changes: object):
    """The configuration with some of params.yaml's lines replaced."""
    lines = (root / "params.yaml").read_text().splitlines()
    for key, value in changes.items():
        lines = [
            f"{line[: len(line) - len(line.lstrip())]}{key}: {value}"
            if line.lstrip().startswith(f"{key}:")
            else line
            for line in lines
        ]
    changed = root / "changed.yaml"
    changed.write_text("\n".join(lines) + "\n")
    return load_config(changed)


# --- failures ----------------------------------------------------------------------------------


def test_the_stage_fails_where_memory_does(here: Path, monkeypatch) -> None:
    """It used to end well, with every row "out of memory" and an accuracy of 0."""
    from abo_vqa.models.vilt import Vilt

    def full(*_):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")

    out = Path("reports/baselines/vilt/predictions.csv")
    out.unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(Vilt, "predict_answers", full)
        with pytest.raises(UserError, match=r"models\.vilt .*quantize"):
            run_stage(stage, load_config(), model="vilt")
    assert not out.exists()
    assert (
        run_stage(stage, load_config(), model="vilt").metrics["failed"] == 3
    )  # the broken picture's


# --- interruptions -----------------------------------------------------------------------------


def test_the_speed_counts_the_rows_of_this_run_only(here: Path, monkeypatch) -> None:
    def clock() -> SimpleNamespace:
        """Each look at it is a second later: beginning, loading begins, loading ends, end."""
        return SimpleNamespace(perf_counter=itertools.count().__next__, sleep=time.sleep)

    monkeypatch.setattr("abo_vqa.models.answering.baseline.time", clock())
    first = stage.run(load_config(), model="vilt")
    assert first.metrics["rows_per_second"] == 30 / 3
    (file,) = Path(".cache/abo-vqa/baseline-vilt").glob("*/answers-0.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0])
    monkeypatch.setattr("abo_vqa.models.answering.baseline.time", clock())
    resumed = stage.run(load_config(), model="vilt")
    assert resumed.metrics["rows_per_second"] == (30 - len(json.loads(lines[0]))) / 3
    assert "rows_per_second" not in run_stage(stage, load_config(), model="vilt").metrics


# --- the stage ---------------------------------------------------------------------------------


def test_stage_writes_every_row_in_order(here: Path) -> None:
    config = load_config()
    summary = run_stage(stage, config, model="blip")
    table = read_table(BLIP, journal.COLUMNS)
    vqa = read_table("data/vqa.csv")
    order = vqa.sample(frac=1, random_state=config.seed).index
    assert table["row_id"].astype(int).tolist() == list(order)
    failed = vqa.loc[table["row_id"].astype(int), "image_path"].to_numpy() == "00/00000009.jpg"
    assert (table["error"] != "").tolist() == failed.tolist()
    assert failed.sum() == 3
    assert summary.metrics["failed"] == 3
    assert summary.params["decoding"].startswith("greedy")
    confidence = table.loc[~failed, "confidence"].astype(float)
    assert confidence.between(0, 1).all()
    assert not list(Path(".cache/abo-vqa/baseline-blip").iterdir())


def test_stored_vision_gives_the_same_answers(here: Path) -> None:
    from abo_vqa.stages import embed

    config = load_config()
    run_stage(stage, config, model="blip")
    direct = BLIP.read_bytes()
    run_stage(embed, config)
    try:
        assert stored_encodings(config, "blip") is not None
        run_stage(stage, config, model="blip")
        assert BLIP.read_bytes() == direct
    finally:
        shutil.rmtree("data/embeddings/blip")


def test_a_smaller_fraction_is_a_prefix(here: Path) -> None:
    run_stage(stage, load_config(), model="vilt")
    out = Path("reports/baselines/vilt/predictions.csv")
    whole = read_table(out)
    run_stage(stage, settings(here, fraction=0.5), model="vilt")
    part = read_table(out)
    assert len(part) == len(whole) // 2
    columns = ["row_id", "prediction", "error"]
    pd.testing.assert_frame_equal(part[columns], whole[columns].head(len(part)))


def test_finetuned_answers_are_the_adapted_librarys(here: Path) -> None:
    """Base, adapter and stored vision outputs against PEFT on the library's model, one by one."""
    import shutil

    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import BlipForQuestionAnswering, BlipProcessor

    from abo_vqa.data.archive import open_archive
    from abo_vqa.stages import embed

    config = load_config()
    with pytest.raises(UserError, match="run the stage `finetune`"):
        answer_with_adapter(config, read_table("data/test.csv"))
    base = BlipForQuestionAnswering.from_pretrained(config.models.blip.path)
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["query", "value"]))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    adapted.save_pretrained(ADAPTER)
    run_stage(embed, config)
    try:
        test = read_table("data/test.csv")
        table = answer_with_adapter(config, test)
        assert table["row_id"].tolist() == test["row_id"].astype(int).tolist()
        plain = BlipForQuestionAnswering.from_pretrained(config.models.blip.path)
        plain = PeftModel.from_pretrained(plain, ADAPTER).eval()
        processor = BlipProcessor.from_pretrained(config.models.blip.path)
        expected = []
        with open_archive(config.data.raw) as archive:
            for path, question in zip(test["image_path"], test["question"], strict=True):
                inputs = processor(archive.image(path), question, return_tensors="pt")
                ids = plain.generate(**inputs, max_new_tokens=10, do_sample=False)[0]
                expected.append(processor.decode(ids, skip_special_tokens=True).strip())
        assert table["prediction"].tolist() == expected
    finally:
        shutil.rmtree(ADAPTER)
        shutil.rmtree("data/embeddings/blip")


def test_clips_candidates(here: Path) -> None:
    config = load_config()
    fixed = candidates_for("clip-fixed", config)
    assert len(fixed) >= 100
    assert len(set(fixed)) == len(fixed)
    assert {"yes", "no", "two", "black", "wood", "round", "left", "chair"} <= set(fixed)
    train = candidates_for("clip-train", config)
    everybody = candidates_for("clip-all", config)
    assert set(train) == set(read_table("data/train.csv")["answer"])
    assert set(everybody) == set(read_table("data/vqa.csv")["answer"])
    for name, candidates in (("clip-fixed", fixed), ("clip-train", train)):
        run_stage(stage, config, model=name)
        table = read_table(f"reports/baselines/{name}/predictions.csv")
        assert set(table.loc[table["error"] == "", "prediction"]) <= set(candidates)


def test_candidates_in_another_encoding_are_the_users_problem(here: Path, tmp_path: Path) -> None:
    file = tmp_path / "answers.txt"
    file.write_bytes("café\n".encode("latin-1"))
    config = load_config()
    baselines = config.baselines.model_copy(update={"answers": file})
    with pytest.raises(UserError, match=r"answers\.txt isn't UTF-8 text .*Save it in UTF-8"):
        candidates_for("clip-fixed", config.model_copy(update={"baselines": baselines}))


def test_blind_sees_train_only(here: Path) -> None:
    config = load_config()
    run_stage(stage, config, model="blind")
    train = read_table("data/train.csv")
    vqa = read_table("data/vqa.csv")
    for variant in ("majority", "type", "question", "ngram"):
        table = read_table(f"reports/baselines/blind/{variant}/predictions.csv")
        assert len(table) == len(vqa)
        assert set(table["prediction"]) <= set(train["answer"])
        assert (table["error"] == "").all()
    fits = json.loads(Path("reports/baselines/blind/fits.json").read_text())
    assert all(found == {"ended": True} for found in fits.values())


def test_a_blind_fit_on_a_part_of_the_answers_is_reported(here: Path, monkeypatch, capsys) -> None:
    from abo_vqa.evaluation.predictions import partial_fits
    from abo_vqa.models.blind import ngrams

    monkeypatch.setattr(ngrams, "QUESTION_CELLS", 1)
    monkeypatch.setattr(ngrams, "MINIBATCH_ANSWERS", 5)
    summary = stage.run(load_config(), model="blind")
    message = r"blind-ngram was fitted on 5 of \d+ answers \([\d.]+% of the rows\): its accuracy"
    assert re.search(message, summary.message)
    assert summary.params["partial_fits"] == "ngram"
    fits = json.loads(Path("reports/baselines/blind/fits.json").read_text())
    assert partial_fits(fits) == {"blind-ngram": fits["ngram"]["part"]}


def test_unknown_models_and_missing_weights_are_told_plainly(here: Path, capsys) -> None:
    from abo_vqa.models.registry import load_model

    config = load_config()
    with pytest.raises(UserError, match="Did you mean blip2"):
        load_model("blip-2", config)
    with pytest.raises(UserError, match="Its variants are clip-fixed, clip-train, clip-all"):
        load_model("clip", config)
    with pytest.raises(UserError, match=r"add `smolvlm: \{family: …, path"):
        load_model("smolvlm", config)
    gone = config.models.vilt.model_copy(update={"path": "models/gone"})
    models = config.models.model_copy(update={"vilt": gone})
    with pytest.raises(UserError, match="no folder of that name"):
        load_model("vilt", config.model_copy(update={"models": models}))


# --- the real thing, killed --------------------------------------------------------------------


def test_killed_and_resumed_is_the_same_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from abo_vqa.models.blip.model import Blip

    run_stage(stage, load_config(), model="blip")
    whole = BLIP.read_bytes()
    BLIP.unlink()
    killed = Fork(partial(command, "baseline", "--model", "blip", killed_at=2))
    stderr = killed.wait()
    assert killed.returncode == -signal.SIGKILL, stderr[-2000:]
    assert not BLIP.exists()
    journals = list((here / ".cache/abo-vqa/baseline-blip").rglob("answers-*.jsonl"))
    assert sum(len(f.read_bytes().splitlines()) for f in journals) >= 1
    asked: list[int] = []
    say = Blip.predict_answers
    count = lambda self, *rows: asked.append(len(rows[1])) or say(self, *rows)  # noqa: E731
    monkeypatch.setattr(Blip, "predict_answers", count)
    run_stage(stage, load_config(), model="blip")
    assert BLIP.read_bytes() == whole
    assert 0 < sum(asked) < len(read_table(BLIP))
