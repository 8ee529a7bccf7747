"""However the work is cut, placed or shared out, training does the same."""

import json
import os
import random
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import embeddings_of
from abo_vqa.core.summary import no_log
from abo_vqa.core.tables import read_table
from abo_vqa.stages import finetune
from abo_vqa.training import run, vision_cache
from abo_vqa.training.families.blip import BlipFamily
from abo_vqa.training.schedule import make_scheduler
from tests.support import ROOT
from tests.support import training as project
from tests.support.forks import Fork
from tests.support.stages import run_stage

EMBEDDINGS = embeddings_of("blip")

ADAPTER = Path("models/adapter/adapter_model.safetensors")
LOSS = BlipFamily.loss
EXACT = {"dropout": 0.0, "epochs": 1}  # dropout's random numbers depend on the parts


def trained(values=None, log=no_log):
    """Run the stage with changed settings; returns losses and weights."""
    config = project.set_lora(values or {})
    run_stage(finetune, config, log)
    return losses(), load_file(ADAPTER)


def every_digit(values) -> list[float]:
    """The losses as they are logged; the summary rounds them."""
    logged: list[float] = []

    def log(metrics, step):
        if "loss" in metrics:
            logged.append(metrics["loss"])

    trained(values, log)
    return logged


def losses() -> list[float]:
    return [step["loss"] for step in read_json("reports/training.json")["steps"]]


def assert_same(one, other) -> None:
    """Losses and LoRA weights are equal but for rounding."""
    np.testing.assert_allclose(one[0], other[0], rtol=1e-5)
    for name, weight in one[1].items():
        scale = float(weight.abs().max()) or 1.0
        # Adam divides by the gradient's size, so where that is tiny, rounding shows.
        assert float((other[1][name] - weight).abs().max()) <= 1e-3 * scale, name


def test_parts_of_a_batch_add_up(workspace):
    """`accumulate` and `batch_size` only matter as a product."""
    whole = trained({**EXACT, "batch_size": 6, "accumulate": 1})
    assert_same(whole, trained({**EXACT, "batch_size": 2, "accumulate": 3}))


def test_a_seed_of_training_alone(workspace):
    """It changes initial weights, order and dropout, and leaves the held-out rows as they are."""
    table = read_table("data/train.csv")
    held_out = run.hold_out(table, project.set_lora({"epochs": 1}))
    default = trained()
    assert run.hold_out(table, project.set_lora({"seed": 7})) == held_out
    other = trained({"seed": 7})
    assert other[0] != default[0]
    assert_same(trained({"seed": 42}), default)  # `seed` itself


def test_loss_falls_and_validation_is_told(workspace):
    logged: list[dict[str, float]] = []
    before, _ = trained({"epochs": 12}, lambda metrics, step: logged.append(dict(metrics)))
    assert np.mean(before[-3:]) < 0.6 * np.mean(before[:3])
    report = read_json("reports/training.json")
    assert len(report["epochs"]) == 12
    best = max(report["epochs"], key=lambda e: (e["validation_accuracy"], -e["validation_loss"]))
    assert report["best_epoch"] == best["epoch"]
    names = {name for metrics in logged for name in metrics}
    assert names == {"loss", "lr", "gradient_norm", "samples_per_second", "memory_bytes",
                     "validation_accuracy", "validation_loss", "epoch_seconds"}  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", [0.5, 1.0, 1.0, 0.853553, 0.5]),
    ],
)
def test_learning_rates(schedule, expected):
    """Warm-up over a third of 6 steps, then down from the full rate."""
    config = load_config(ROOT / "params.yaml")
    settings = config.lora.model_copy(update={"schedule": schedule, "warmup": 0.34})
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make_scheduler(optimizer, settings, 6)
    rates = []
    for _ in range(5):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_where_the_pictures_are_changes_nothing(workspace, monkeypatch):
    """In memory, and on disk, read ahead by a thread."""
    trained()
    expected = file_md5(ADAPTER)
    monkeypatch.setattr(vision_cache, "MAX_MEMORY_FRACTION", 0.0)
    trained()
    assert file_md5(ADAPTER) == expected


def test_half_precision_outputs_train_float32_weights(workspace):
    """Vision outputs may be kept in half precision; on a CPU the arithmetic is float32."""
    from abo_vqa.stages import embed

    exact = every_digit(EXACT)
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("dtype: null", "dtype: float16"))
    run_stage(embed, project.load_config())
    rounded = every_digit(EXACT)
    assert exact != rounded
    np.testing.assert_allclose(exact, rounded, rtol=1e-3)


@pytest.mark.slow  # a minute of compilation
def test_compiled_steps_are_the_same(workspace):
    assert_same(trained(EXACT), trained({**EXACT, "compile": True}))


def test_out_of_memory_halves_the_parts(workspace, monkeypatch, capsys):
    whole = trained(EXACT)
    sizes: list[int] = []

    def loss(self, batch):
        if torch.is_grad_enabled():  # not in validation
            sizes.append(len(batch.rows))
        if torch.is_grad_enabled() and len(batch.rows) > 3:
            raise torch.OutOfMemoryError("no more")
        return LOSS(self, batch)

    monkeypatch.setattr(BlipFamily, "loss", loss)
    assert_same(whole, trained(EXACT))
    assert sizes[0] == 6
    assert set(sizes[1:]) == {3}
    assert "into 2 micro-batches from now on" in capsys.readouterr().err


def test_out_of_memory_for_one_picture_is_the_users_problem(workspace, monkeypatch):
    def loss(self, batch):
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(BlipFamily, "loss", loss)
    with pytest.raises(UserError, match="single image's questions"):
        trained(EXACT)


def test_not_a_number_stops_with_the_rows(workspace):
    table = read_table("data/train.csv")
    config = project.set_lora({})
    rows, _ = finetune_rows(config)
    bad = table["image_path"].iloc[rows[0]]
    fill_with_nan(bad)
    with pytest.raises(UserError, match="isn't finite") as stopped:
        run_stage(finetune, config)
    file = Path(str(stopped.value).split(" are in ")[1].split(".json")[0] + ".json")
    assert set(table.loc[table["image_path"] == bad, "row_id"]) <= set(json.loads(file.read_text()))
    assert not ADAPTER.exists()


def finetune_rows(config):
    from abo_vqa.models.embeddings.store import EmbeddingStore
    from abo_vqa.training.validation import hold_out

    return hold_out(run.readable_rows(EmbeddingStore.open(EMBEDDINGS)), config)


def fill_with_nan(path: str) -> None:
    """Make one picture's vision outputs not-a-number."""
    place = read_table(EMBEDDINGS / "paths.csv")["image_path"].tolist().index(path)
    vectors = np.load(EMBEDDINGS / "vectors.npy", mmap_mode="r+")
    vectors[place] = np.nan
    vectors.flush()


def test_held_out_rows_share_no_picture_with_the_others(workspace):
    rows, held_out = finetune_rows(project.load_config())
    paths = read_table("data/train.csv")["image_path"]
    assert len(held_out) >= 3
    assert not set(paths.iloc[rows]) & set(paths.iloc[held_out])
    assert sorted([*rows, *held_out]) == list(range(len(rows) + len(held_out)))


def test_near_duplicates_are_held_out_together_without_product_ids(workspace):
    from abo_vqa.training.validation import hold_out

    paths = [f"{i:02d}{side}.jpg" for i in range(20) for side in "ab"]
    hashes = [f"{random.Random(i).getrandbits(64):016x}" for i in range(20) for _ in "ab"]
    table = pd.DataFrame({"image_path": paths, "phash": hashes})
    config = project.load_config()
    assert config.split.group == "near-duplicate"
    rows, held_out = ({hashes[i] for i in part} for part in hold_out(table, config))
    assert rows
    assert held_out
    assert not rows & held_out


@pytest.mark.parametrize(("share", "images"), [(0.1, 1), (0.9, 2)])
def test_too_few_groups_to_hold_some_out(workspace, share, images):
    table = read_table("data/train.csv")
    table = table[table["image_path"].isin(table["image_path"].unique()[:images])]
    table.to_csv("data/train.csv", index=False)
    with pytest.raises(
        UserError, match=rf"lora.validation is {share}, but the training rows form {images} group"
    ):
        run_stage(finetune, project.set_lora({"validation": share}))


def test_no_readable_row_is_the_users_problem(workspace):
    table = read_table("data/train.csv")
    table[table["image_path"] == "none"].to_csv("data/train.csv", index=False)
    with pytest.raises(UserError, match="no question about an image that can be read"):
        run_stage(finetune, project.set_lora({"validation": 0}))


def test_rows_that_are_too_long_are_left_out(workspace, capsys):
    table = read_table("data/train.csv")
    table["question"] = ["what is red? " * 30, *table["question"].iloc[1:]]
    table["answer"] = ["red", "lamp " * 70, *table["answer"].iloc[2:]]
    table.to_csv("data/train.csv", index=False)
    trained({"validation": 0, **EXACT})
    message = "training rows are left out: the question or a choice is too long: 122 tokens"
    assert f"2 of 24 {message}" in capsys.readouterr().err


def test_unreadable_pictures_are_left_out(workspace):
    """The last picture of the tiny archive doesn't decode."""
    from abo_vqa.models.embeddings.store import EmbeddingStore

    store = EmbeddingStore.open(EMBEDDINGS)
    assert len(store.errors) == 1
    assert not set(run.readable_rows(store)["image_path"]) & set(store.errors)


def test_stale_vision_outputs_are_refused(workspace):
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("dtype: null", "dtype: float16"))
    with pytest.raises(UserError, match="run the stage `embed`"):
        run_stage(finetune, project.load_config())


@pytest.fixture
def rank_zero(monkeypatch):
    """This process as the first of two; the environment of the second."""
    from accelerate.state import AcceleratorState

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0",
                        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                        "ACCELERATE_USE_CPU": "true"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    yield {**os.environ, "RANK": "1", "LOCAL_RANK": "1"}
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)


def trained_by_two(environment):
    """Run the stage with a second process; its environment is `rank_zero`'s."""
    other = Fork(project.finetune_here, environment=environment)
    try:
        run_stage(finetune, load_config())
    finally:
        stderr = other.wait()
    assert other.returncode == 0, stderr[-3000:]
    return losses(), load_file(ADAPTER)


def test_two_processes_take_the_same_steps(workspace, request):
    """Two CPU processes over gloo: the batch is shared out, the effective batch stays."""
    one = trained(EXACT)
    ADAPTER.unlink()
    assert_same(one, trained_by_two(request.getfixturevalue("rank_zero")))


@pytest.mark.slow
def test_the_documented_command(workspace):
    """As docs/finetuning.md has it, with two processes: it starts two, and they share the work."""
    one = trained(EXACT)
    ADAPTER.unlink()
    text = (ROOT / "docs/finetuning.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("torchrun "))
    words = shlex.split(line.partition("&&")[0])
    script = str(ROOT / "src/abo_vqa/__main__.py")
    command = [{"4": "2", "src/abo_vqa/__main__.py": script}.get(word, word) for word in words]
    assert {"2", script} < set(command)
    command[0] = str(Path(sys.executable).with_name("torchrun"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 processes share each batch" in done.stderr
    assert_same(one, (losses(), load_file(ADAPTER)))


@pytest.mark.slow
def test_ray_trains_workers_do_the_same(workspace, monkeypatch):
    """The other documented command, with two workers on cores."""
    pytest.importorskip("ray.train")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    one = trained(EXACT)
    ADAPTER.unlink()
    command = [sys.executable, str(ROOT / "deploy/ray_train.py"), "--workers", "2", "--cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 processes share each batch" in done.stdout + done.stderr
    assert list(Path(".cache/ray-train").iterdir()) == []  # on the disk that machines share
    assert_same(one, (losses(), load_file(ADAPTER)))


def test_one_card_for_several_processes_is_refused(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    config = project.load_config()
    compute = config.compute.model_copy(update={"device": "cuda:0"})
    config = config.model_copy(update={"compute": compute})
    with pytest.raises(UserError, match="device is cuda:0, so all 2 processes would use the same"):
        run.train(config, tmp_path)
