"""`make gpu` to its end on a pretended GPU, at small sizes, and what its figures rest on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support import ROOT
from tests.support.pretend_gpu import pretend

sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu as benchmark
from helpers import (
    card,
    clip_towers,
    families,
    gpu_parts,
    random_weights,
    settings,
)

ALL = list(benchmark.PARTS)
CPU = torch.device("cpu")


def measured(tmp_path: Path, *parts: str) -> dict:
    """The written result of a run on a pretended GPU whose parts were all measured."""
    out = tmp_path / "result.json"
    with pretend():
        code = benchmark.main(
            ["--size", "tiny", "--minutes", "60", "--out", str(out), "--only", *parts]
        )
    result = json.loads(out.read_text())
    assert {name: part["status"] for name, part in result["parts"].items()} == dict.fromkeys(
        parts, "measured"
    )
    assert code == 0
    return result


def check(result: dict) -> None:
    """What must be so on any device: ours equals the library in float32, nothing is missing."""
    assert result["card"]["name"].startswith("Pretended GPU")
    assert result["dtype"] == "bfloat16"
    for name, part in result["parts"].items():
        if name == "training":
            exact, *half = part["gradients"]
            assert exact["dtype"] == "float32"
            assert exact["gradient_difference"] < 1e-5
            assert exact["our_loss"] == pytest.approx(exact["library_loss"], rel=1e-5)
            assert all(0 < found["gradient_difference"] < 0.1 for found in half)
        else:
            assert [found["dtype"] for found in part["exactness"]] == [
                "float32", "bfloat16", "float16",
            ]  # fmt: skip
            assert part["exactness"][0]["equal"] == 1
            assert part["exactness"][0]["different_answers"] > 1
            assert all(found["equal"] > 0.5 for found in part["exactness"])
        assert all(way["rows_per_second"] > 0 for way in part["ways"])
        assert all(
            way["gflop_per_row"] > 0 for way in part["ways"] if way["way"] != gpu_parts.PREPARING
        )
        assert any("ratio" in way for way in part["ways"])
        assert part["largest"]
        assert part["hours"]


@pytest.mark.slow
def test_runs_to_its_end_on_a_pretended_gpu(tmp_path: Path, capsys) -> None:
    """Two parts; the others go through the same code: `test_every_part`."""
    result = measured(tmp_path, "training", "vilt")
    check(result)
    assert result["parts"]["vilt"]["largest"][0]["rows"] >= 6
    printed = capsys.readouterr().out
    assert benchmark.main(["--markdown", str(tmp_path / "result.json")]) == 0
    assert capsys.readouterr().out.strip() in printed
    assert "| training | the study's loop | float16 | 8 |" in printed


@pytest.mark.slow
def test_every_part(tmp_path: Path) -> None:
    result = measured(tmp_path, *ALL)
    check(result)
    wanted = {
        (name, way["wanted"])
        for name, part in result["parts"].items()
        for way in part["ways"]
        if way.get("wanted")
    }
    assert wanted == {("blip", 15), ("clip-1800", 35), ("llava", 5), ("training", 10)}


def test_a_card_that_is_too_small(tmp_path: Path, capsys) -> None:
    """It is a result, and the run goes on."""
    out = tmp_path / "result.json"
    with pretend(budget=100_000):
        code = benchmark.main(
            ["--size", "tiny", "--minutes", "60", "--out", str(out), "--only", "vilt"]
        )
    part = json.loads(out.read_text())["parts"]["vilt"]
    assert part["status"] == "doesn't fit"
    assert "GB free" in part["exactness"][0]["reason"]
    assert "vilt: doesn't fit" in capsys.readouterr().out
    assert code == 0


def test_a_part_that_fails_is_told_and_the_next_one_runs(tmp_path: Path, monkeypatch) -> None:
    out, ran = tmp_path / "result.json", []

    def part(name, bench, save):
        save({"ways": []})
        ran.append(name)
        if name == "blip":
            raise ValueError("broken")
        if name == "vilt":
            raise ModuleNotFoundError("no", name="torchvision")

    monkeypatch.setattr(benchmark, "family_part", part)
    arguments = ["--size", "tiny", "--device", "cpu", "--minutes", "60", "--out", str(out)]
    assert benchmark.main([*arguments, "--only", "blip", "vilt", "llava"]) == 1
    parts = json.loads(out.read_text())["parts"]
    assert ran == ["blip", "llava", "vilt"]
    assert parts["blip"]["reason"] == "ValueError: broken"
    assert parts["vilt"]["reason"] == "torchvision isn't installed"
    assert parts["llava"]["status"] == "measured"


def test_what_there_was_no_time_for_is_told(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    arguments = ["--size", "tiny", "--device", "cpu", "--minutes", "0", "--out", str(out)]
    assert benchmark.main(arguments) == 1
    parts = json.loads(out.read_text())["parts"]
    assert {part["reason"] for part in parts.values()} == {"the time was over"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys) -> None:
    assert benchmark.main([]) == 2
    assert "no GPU to measure" in capsys.readouterr().err


def test_the_largest_batch_ends_with_the_memory() -> None:
    """In whatever words; production's trainer would cut the batch and go on."""
    with pretend(budget=1_000_000):
        device = torch.device("cuda:0")

        def make(rows: int) -> card.Step:
            return lambda: torch.zeros(rows, 1000, device=device)

        assert card.largest(make, 10, 10_000, device, 60) == (160, "memory")
        assert card.largest(make, 10, 100, device, 60) == (80, "limit")
        assert card.largest(make, 10, 10_000, device, -1) == (10, "time")


def test_training_steps_take_the_path_of_production_and_tell_of_memory() -> None:
    from helpers.lora_steps import LoraSteps

    with pretend() as machine:
        device = torch.device("cuda:0")
        blip = families.FAMILIES["blip"].make("tiny", device, torch.float32)
        steps = LoraSteps(blip, 4, 8, torch.bfloat16, torch.float16)
        assert steps.dataset.images.outputs.vectors.device == device
        assert steps.ours(9)() > 0
        machine.cards[0].rows_fail_from = 3  # pictures: production would take them one by one
        assert not card.fits(steps.ours(9), device)
        machine.cards[0].rows_fail_from = 1  # production would give up
        assert not card.fits(steps.ours(9), device)
        assert steps.trainer.state.micro_batches == 1


def test_settings_are_those_of_the_configuration(tmp_path: Path, monkeypatch) -> None:
    from abo_vqa.core.config import CheckpointConfig, load_config

    monkeypatch.chdir(ROOT)
    text = (ROOT / "params.yaml").read_text().replace("profile: sample", "profile: abo")
    (tmp_path / "params.yaml").write_text(text)
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    config = load_config(tmp_path / "params.yaml")
    assert vars(settings.lora()) == config.lora.model_dump()
    for name in ("blip", "blip2", "clip", "llava", "vilt"):
        known = getattr(config.models, name).model_dump(exclude={"endpoint"})
        assert vars(settings.weights(name)) == known
    plain = CheckpointConfig(path="x", family="blip").model_dump(exclude={"endpoint"})
    assert vars(settings.Weights("x", "blip")) == plain
    assert settings.arithmetic("cpu").dtype == config.compute.dtype


def test_clip_s_towers_are_open_clip_s_and_the_library_s() -> None:
    from open_clip.model import CLIP

    sizes = clip_towers.Sizes(16, 32, 16, (64, 2, 1), (32, 2, 2), 32, 200)
    towers = random_weights.empty(lambda: clip_towers.Towers(sizes))
    random_weights.fill(towers, CPU, torch.float32, 1.5, 1.5)
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 64}
    text = {"context_length": 32, "vocab_size": 200, "width": 32, "heads": 2, "layers": 2}
    theirs = CLIP(16, vision, text, quick_gelu=True).eval()
    theirs.load_state_dict(towers.state_dict())
    library = clip_towers.library(towers)
    tokens = clip_towers.Words([f"w{i}" for i in range(100)], sizes)(["w1 w2 w3", "w5"])
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        texts, seen = towers.encode_text(tokens, True), towers.encode_image(pixels, True)
        assert torch.allclose(theirs.encode_text(tokens, normalize=True), texts, atol=1e-5)
        assert torch.allclose(theirs.encode_image(pixels, normalize=True), seen, atol=1e-5)
        scores = library(input_ids=tokens, pixel_values=pixels).logits_per_image
    assert torch.allclose(scores, 100 * seen @ texts.T, atol=1e-3)


def test_real_sizes() -> None:
    """The real checkpoints' numbers of weights."""
    counts = {name: families.parameters(name, "real") for name in families.FAMILIES}
    assert counts["llava"] == 7_063_427_072
    assert counts["clip-1800"] == counts["clip-3000"] == 151_277_313
    assert counts["blip2"] == pytest.approx(3.745e9, rel=1e-3)
    assert counts["blip"] == 361_230_140
    assert counts["vilt"] == pytest.approx(117.6e6, rel=1e-3)


HIDDEN = """
import importlib.metadata, runpy, sys
names = set(sys.argv[1].split(","))
class Without:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in names else self.finder.find_spec(name, *rest)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
sys.argv = sys.argv[2:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_needs_only_what_it_says(tmp_path: Path) -> None:
    """On a machine with torch, transformers, peft and what these need themselves."""
    absent = "pydantic,pandas,mlflow,dvc,open_clip,timm,torchvision,bert_score,nltk,sklearn,scipy,"
    absent += "pyarrow,matplotlib,msgspec,isal,imagehash,optuna,jinja2,requests,rouge_score"
    out = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN, absent, str(ROOT / "benchmarks/gpu.py"), "--size", "tiny",
         "--device", "cpu", "--minutes", "60", "--out", str(out),
         "--only", "training", "clip-1800"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    parts = json.loads(out.read_text())["parts"]
    assert {part["status"] for part in parts.values()} == {"measured"}


def test_repeated_and_asked() -> None:
    assert len(set(gpu_parts.asked(64, distinct=True))) == 64
    kept = torch.arange(6).view(3, 2)
    assert gpu_parts.repeated(kept, 4).tolist() == [[0, 1], [2, 3], [4, 5], [0, 1]]
