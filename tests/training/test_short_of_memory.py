"""Memory that is too small while reading ahead, validating or embedding: smaller parts instead."""

import weakref
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import embeddings_of
from abo_vqa.models.blip.model import Blip
from abo_vqa.stages import embed, finetune
from abo_vqa.training import step, validation, vision_cache
from abo_vqa.training.batch import Batch
from abo_vqa.training.families.blip import BlipFamily
from tests.support import training as project
from tests.support.stages import run_stage

from .test_loop import EXACT, assert_same, trained

EMBEDDINGS = embeddings_of("blip")

LOSS = BlipFamily.loss


def no_room(*args, **kwargs):
    raise RuntimeError("CUDA driver error: out of memory")


@pytest.fixture(params=["resident", "read-ahead"])
def image_source(request, monkeypatch):
    """With and without the thread that reads ahead."""
    if request.param == "read-ahead":
        monkeypatch.setattr(vision_cache, "MAX_MEMORY_FRACTION", 0.0)


@pytest.mark.usefixtures("image_source")
def test_batches_that_dont_fit_are_cut(workspace, monkeypatch, capsys):
    whole = trained(EXACT)
    move, sizes = Batch.to, []

    def to(self, device):
        sizes.append(len(self.rows))
        return no_room() if len(self.rows) > 3 else move(self, device)

    monkeypatch.setattr(Batch, "to", to)
    assert_same(whole, trained(EXACT))
    assert max(sizes) == 6
    stderr = capsys.readouterr().err
    assert "into 2 micro-batches from now on" in stderr
    assert "into 4 micro-batches" not in stderr


@pytest.mark.usefixtures("image_source")
def test_arithmetic_that_doesnt_fit_halves_once(workspace, monkeypatch, capsys):
    """What was read ahead in parts that were too large is cut anew, not halved twice."""
    whole = trained(EXACT)

    def loss(self, batch):
        return no_room() if len(batch.rows) > 3 else LOSS(self, batch)

    monkeypatch.setattr(BlipFamily, "loss", loss)
    assert_same(whole, trained(EXACT))
    stderr = capsys.readouterr().err
    assert "into 2 micro-batches from now on" in stderr
    assert "into 4 micro-batches" not in stderr


@pytest.mark.usefixtures("image_source")
def test_a_batch_that_is_let_go_is_freed(workspace, monkeypatch):
    """Before its smaller parts are made: neither a loop nor the reading ahead holds on to it."""
    first: list[weakref.ref] = []
    gone: list[bool] = []

    def loss(self, batch):
        if not first:
            first.append(weakref.ref(batch.images))
            no_room()
        gone.append(first[0]() is None)
        return LOSS(self, batch)

    monkeypatch.setattr(BlipFamily, "loss", loss)
    release = step.release_memory
    monkeypatch.setattr(
        step, "release_memory", lambda: (gone.append(first[0]() is None), release())
    )
    trained(EXACT)
    assert gone[0]
    assert all(gone)


def test_memory_that_is_short_elsewhere_is_one_message(workspace, monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "step", no_room)
    with pytest.raises(UserError, match=r"out of memory after step 0\. Use a smaller lora\.r"):
        trained(EXACT)


def test_validation_goes_on_in_halves(workspace, monkeypatch, capsys):
    accuracies = []
    log = lambda metrics, step: accuracies.append(metrics.get("validation_accuracy"))  # noqa: E731
    whole = trained(EXACT, log)
    ask, sizes = validation.Validator.predict, []

    def small(self, rows):
        sizes.append(len(rows))
        return no_room() if len(rows) > 3 else ask(self, rows)

    monkeypatch.setattr(validation.Validator, "predict", small)
    again = []
    assert_same(whole, trained(EXACT, lambda m, step: again.append(m.get("validation_accuracy"))))
    assert sizes[0] > 3
    assert max(sizes[2:]) <= 4
    assert again == accuracies
    assert "validating" in capsys.readouterr().err


def test_validation_of_one_image_is_the_users_problem(workspace, monkeypatch):
    monkeypatch.setattr(validation.Validator, "predict", no_room)
    with pytest.raises(UserError, match="validating a single image's questions"):
        trained(EXACT)


def test_an_image_with_most_of_the_rows_is_validated_alone(monkeypatch):
    """Half of four rows would be two, but the three of one image fit, and can't be split."""
    family = SimpleNamespace(device=torch.device("cpu"), validation_batch_size=256)
    images = ["a", "a", "a", "b"]
    dataset = SimpleNamespace(image_paths=images, answer_tokens=len, family=family)
    table = pd.DataFrame({"question": ["what?"] * 4, "answer": ["red"] * 4})
    sizes = []

    def predict(self, rows):
        sizes.append(len(rows))
        return no_room() if len(rows) > 3 else (1.0, ["red"] * len(rows))

    monkeypatch.setattr(validation.Validator, "predict", predict)
    validate = validation.Validator(dataset, table, range(4), torch.float32)
    assert validate() == [4, 4, 2.0, 4, 1, 1, 1, 1]
    assert sizes == [4, 3, 1]


def test_embedding_goes_on_in_halves(workspace, monkeypatch, capsys):
    whole = {file.name: file.read_bytes() for file in EMBEDDINGS.iterdir()}
    encode, sizes = Blip.encode, []

    def small(self, prepared):
        sizes.append(len(prepared))
        return no_room() if len(prepared) > 3 else encode(self, prepared)

    monkeypatch.setattr(Blip, "encode", small)
    summary = run_stage(embed, project.load_config())
    assert sizes[0] > 3
    assert max(sizes[3:]) <= 3
    assert {file.name: file.read_bytes() for file in EMBEDDINGS.iterdir()} == whole
    assert "3 images at a time from now on" in capsys.readouterr().err
    assert summary.metrics["peak_memory_bytes"] > 0


def test_embedding_of_one_picture_is_the_users_problem(workspace, monkeypatch):
    monkeypatch.setattr(Blip, "encode", no_room)
    with pytest.raises(UserError, match="out of memory with a single image"):
        run_stage(embed, project.load_config())


def test_the_peak_is_told(workspace):
    assert run_stage(finetune, project.set_lora(EXACT)).metrics["peak_memory_bytes"] > 0
