"""The training that `make sample` runs, on a handful of pictures."""

import os
import random
import shutil

import numpy as np
import pytest
import torch
from sample import checkpoints, trunk
from sample.muon import Muon, orthogonalised
from sample.pretraining import (
    SYNONYMS,
    WORDINGS,
    ask,
    draw_chunk,
    draw_looks,
    pictures,
    truths,
)
from sample.training import attribute_labels, fit

from tests.support import ROOT


def test_orthogonalised_has_singular_values_near_one():
    torch.manual_seed(0)
    for shape in ((24, 8), (8, 24)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
        assert 0.6 < values.min() <= values.max() < 1.3


def test_muon_solves_a_least_squares_problem():
    torch.manual_seed(0)
    wanted, weight = torch.randn(6, 4), torch.nn.Parameter(torch.zeros(6, 4))
    optimizer = Muon([weight], lr=0.05, weight_decay=0.0)
    before = (weight - wanted).pow(2).mean().item()
    for _ in range(200):
        loss = (weight - wanted).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02 * before


def test_fit_is_repeatable_and_learns():
    def run():
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 1)
        x = torch.randn(64, 3)
        y = x.sum(1, keepdim=True)
        return fit(
            "line",
            list(layer.parameters()),
            lambda rows: (layer(x[rows]) - y[rows]).pow(2).mean(),
            n=64,
            steps=150,
            batch=16,
            lr=0.1,
            seed=0,
        )

    assert run() == run() < 0.05


def test_tower_learns_colours_from_few_pictures():
    looks = draw_looks(64, 3)
    images, labels = draw_chunk(looks), attribute_labels(looks)
    tower = trunk.blip_tower(0)
    seen = trunk.last_hidden(tower)
    readout = trunk.train_tower(
        "tower", tower, seen, images, labels, steps=60, seed=0, lr=2e-3, keep=32
    )
    assert trunk.accuracy(readout, seen, images, labels)["color"] > 0.6


def test_pictures_resume_where_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr("sample.pretraining.CHUNK", 2)
    looks = draw_looks(4, 0)
    first = tmp_path / "chunk-0.npy"
    marked = np.zeros((2, 64, 64, 3), np.uint8)
    np.save(first, marked)
    images = pictures(looks, tmp_path, 1)
    assert (images[:2] == 0).all()  # taken from the chunk that was there
    assert (images[2:] == draw_chunk(looks[2:])).all()
    assert not first.exists()


def test_askers_keep_to_their_register():
    terse = {w for pair in WORDINGS.values() for w in pair[0]}
    talkative = {w for pair in WORDINGS.values() for w in pair[1]}
    assert not terse & talkative
    r = random.Random(0)
    said: dict[bool, list[bool]] = {True: [], False: []}
    for number, look in enumerate(draw_looks(400, 5)):
        facts = truths(look)
        for pair in ask(number, look, r):
            if pair.kind == "material":
                is_terse = not pair.question.endswith("?")
                said[is_terse].append(pair.answer == facts["material"])
                assert pair.answer in (facts["material"], SYNONYMS[facts["material"]])
    assert np.mean(said[True]) > 0.7 > 0.3 > np.mean(said[False])


def test_yes_and_no_are_balanced_and_true():
    r = random.Random(0)
    pairs = [p for k, look in enumerate(draw_looks(300, 6)) for p in ask(k, look, r)]
    answers = [p.answer for p in pairs if p.kind.startswith("is_")]
    assert 0.4 < np.mean([a == "yes" for a in answers]) < 0.6


def test_a_worker_leaves_with_its_parent():
    """The parent dies at once and prints its child's id; the child must be gone soon after."""
    import subprocess
    import sys
    import time

    code = (
        "import os, time\n"
        "from sample.checkpoints import leave_with\n"
        "parent, child = os.getpid(), os.fork()\n"
        "if child: print(child, flush=True); os._exit(0)\n"
        "time.sleep(0.5); leave_with(parent)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'tools'}{os.pathsep}{ROOT / 'src'}"},
    )
    child = int(done.stdout)
    for _ in range(100):
        if not alive(child):
            break
        time.sleep(0.1)
    assert not alive(child)


def alive(pid: int) -> bool:
    """The process exists and isn't a zombie waiting to be reaped."""
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("name", ["blip", "blip2", "clip", "llava", "vilt", "bart", "encoder"])
def test_every_model_is_trained_saved_and_kept(tmp_path, monkeypatch, name):
    monkeypatch.setattr(checkpoints, "PICTURES", 40)
    monkeypatch.setattr(checkpoints, "HELD_OUT", 8)
    for step in checkpoints.STEPS:
        monkeypatch.setitem(checkpoints.STEPS, step, 2)
    np.save(tmp_path / "pictures.npy", draw_chunk(draw_looks(40, 1)))
    assert "already" not in checkpoints.make("tower", tmp_path, 1)
    (tmp_path / f"{name}.part").mkdir()  # as an interrupted run leaves it
    assert "loss" in checkpoints.make(name, tmp_path, 1)
    assert list((tmp_path / name).glob("*.safetensors"))
    assert "already" in checkpoints.make(name, tmp_path, 1)
    shutil.rmtree(tmp_path / "tower")
