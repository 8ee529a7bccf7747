"""A model of the profile writes the pairs: the whole way, with tiny checkpoints that write."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from abo_vqa.annotate.journals import journal_folder, journal_settings
from abo_vqa.cli import main
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.remote.journal import read_journal
from abo_vqa.stages.generate import run
from tests.support.annotation import make, vqa, write_balanced, write_params
from tests.support.vipllava import save_vipllava
from tests.support.vlms import save_without_template
from tests.support.writers import GOOD, MIXED, save_writer

PROMPT = "Write $questions questions about the picture. $brands"


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints that always write good pairs, that mostly do, and that can't."""
    root = tmp_path_factory.mktemp("writers")
    save_writer(root / "good", GOOD)
    save_writer(root / "mixed", MIXED)
    save_writer(root / "library", GOOD, save_vipllava)
    save_writer(root / "chatter", ["I am a small model.", "What a picture!"])
    return root


def prepare(folder: Path, writers: Path, n: int = 12, size: int = 5) -> list[dict[str, str]]:
    """A workspace whose profile has the checkpoints under `models`."""
    rows = make(folder, n)
    if not (folder / "writers").exists():
        (folder / "writers").symlink_to(writers)
    file = folder / "conf/profiles/sample.yaml"
    profile = yaml.safe_load(file.read_text())
    for name in ("good", "mixed", "library", "chatter"):
        profile["models"][name] = {"family": "chat", "path": f"writers/{name}"}
        profile["batch_sizes"][name] = size
    file.write_text(yaml.safe_dump(profile, sort_keys=False))
    (folder / "prompt.txt").write_text(PROMPT)
    return rows


def local(folder: Path, model: str = "mixed", **generate: Any) -> Config:
    settings = {"prompt": "prompt.txt", "image_size": 32, "max_output_tokens": 64}
    write_params(folder, annotator="local", model=model, **(settings | generate))
    params = yaml.safe_load((folder / "params.yaml").read_text())
    (folder / "params.yaml").write_text(json.dumps(params | {"threads": 1}))  # it is quicker
    return load_config()


def tables(folder: Path) -> list[bytes]:
    return [(folder / f"data/{name}").read_bytes() for name in ("generated.csv", "rejects.csv")]


def journal(config: Config, name: str = "main.jsonl") -> Path:
    return journal_folder(journal_settings(config)) / name


@pytest.mark.parametrize("model", ["good", "mixed", "library"])
def test_each_image_has_its_pairs(here: Path, writers: Path, model: str) -> None:
    rows = prepare(here, writers)
    write_balanced(here, [*rows, {**rows[0], "image_path": "00/missing.jpg"}])
    summary = run(local(here, model))
    found = vqa(here)
    pairs = Counter(row["image_path"] for row in found)
    assert set(pairs.values()) == {3}
    assert {row["annotator"] for row in found} == {model}
    entries = read_journal(journal(load_config())).entries
    assert all(entry.price == 0 and entry.usage.input > entry.usage.output > 0 for entry in entries)
    counts = json.loads((here / "data/generate.json").read_text())
    assert counts["model"]["name"] == model
    assert "images left out" in summary.message
    assert "1 unreadable" in summary.message
    assert summary.metrics["cost_usd"] == 0
    lacking = {row["image_path"] for row in rows} - set(pairs)
    if model == "mixed":
        assert len(entries) > len(rows), "none was asked for more"
        assert 0 < len(lacking) < 6
    else:
        assert not lacking
    assert len({row["question"] for row in found}) > 3, "the images' pairs are all alike"
    before, asked = tables(here), len(entries)
    run(load_config())
    assert tables(here) == before
    assert len(read_journal(journal(load_config())).entries) == asked


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_neither_batches_nor_interruptions_matter(
    here: Path, writers: Path, temperature: float
) -> None:
    prepare(here, writers, size=12)
    config = local(here, temperature=temperature)
    run(config)
    expected, lines = tables(here), journal(config).read_bytes().splitlines(keepends=True)
    prepare(here, writers, size=4)
    config = local(here, temperature=temperature)
    for kept in (2, 7, len(lines) - 1):
        torn = lines[kept][:20] if kept < len(lines) else b""
        journal(config).write_bytes(b"".join(lines[:kept]) + torn)
        run(config)
        assert tables(here) == expected


def test_a_greedy_model_isnt_asked_twice_for_the_same(here: Path, writers: Path) -> None:
    prepare(here, writers, 20)
    config = local(here, temperature=0.0, attempts=5)
    run(config)
    entries = read_journal(journal(config)).entries
    by_image: dict[str, list[int]] = {}
    for entry in entries:
        by_image.setdefault(entry.image_path, []).append(len(entry.pairs))
    assert any(0 in pairs for pairs in by_image.values())
    assert all(0 not in pairs[:-1] for pairs in by_image.values())
    assert main(["generate", "--shard", "1/1"]) == 0  # a dropped image isn't open
    assert main(["generate", "--merge", str(journal(config))]) == 0


def test_another_seed_draws_other_pairs(here: Path, writers: Path) -> None:
    prepare(here, writers)
    run(local(here, "good", temperature=1.0))
    before = tables(here)
    params = yaml.safe_load((here / "params.yaml").read_text())
    (here / "params.yaml").write_text(yaml.safe_dump(params | {"seed": 43}))
    run(load_config())
    assert tables(here) != before


def test_other_weights_have_a_journal_of_their_own(here: Path, writers: Path) -> None:
    prepare(here, writers)
    first = journal(local(here))
    assert journal(local(here, thinking="low", safety="BLOCK_NONE")) == first
    (here / "writers").unlink()
    shutil.copytree(writers, here / "writers")
    assert journal(local(here)) == first
    shutil.copy(here / "writers/good/model.safetensors", here / "writers/mixed")
    assert journal(local(here)) != first


def test_shards_make_the_whole(here: Path, writers: Path, capsys: Any) -> None:
    prepare(here, writers, 20)
    config = local(here)
    for part in ("1/2", "2/2"):
        assert main(["generate", "--shard", part]) == 0
        assert "USD" not in capsys.readouterr().out
    shards = [journal(config, f"shard-{i}-of-2.jsonl").rename(here / f"{i}.jsonl") for i in (1, 2)]
    assert main(["generate", "--merge", str(shards[0])]) == 75
    assert main(["generate", "--merge", *map(str, shards)]) == 0
    run(config)
    merged = tables(here)
    assert not read_journal(journal(config)).entries
    shutil.rmtree(journal(config).parent)
    run(config)
    assert tables(here) == merged
    local(here, "good")
    capsys.readouterr()
    assert main(["generate", "--merge", str(shards[0])]) == 2
    assert "other settings: generate.model" in capsys.readouterr().err


def test_a_model_that_cant_stops_after_a_few_images(here: Path, writers: Path) -> None:
    prepare(here, writers, 20)
    config = local(here, "chatter")
    with pytest.raises(UserError, match="5 images in a row got no valid pair") as caught:
        run(config)
    for part in (
        "generate.model (chatter) doesn't write JSON",
        "The last reply: ",
        "--drop-failing",
    ):
        assert part in str(caught.value)
    assert "run it again" not in str(caught.value)
    assert len(read_journal(journal(config)).entries) == 5
    with pytest.raises(UserError, match="5 images in a row"):
        run(config)
    assert main(["generate", "--drop-failing"]) == 0
    with pytest.raises(UserError, match=r"none of the 20 images got its 3 pairs: {'dropped': 20}"):
        run(config)


def test_a_prompt_without_room_is_told_with_its_numbers(
    here: Path, writers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(here, writers, 8)
    config = local(here, max_output_tokens=8190)
    parts = (
        r"texts alone take (\d+) tokens, the reply may take 8,190, and .* has room for 8,192",
        r"lower generate\.max_output_tokens \(8190\)",
    )
    with pytest.raises(UserError) as error:
        run(config)
    assert main(["generate", "--dry-run"]) == 2
    output = capsys.readouterr()
    assert not output.out
    for part in parts:
        assert re.search(part, str(error.value))
        assert re.search(part, output.err)
    assert not read_journal(journal(config)).entries, "an image was read for that"
    local(here, max_output_tokens=64)
    run(load_config())


def test_images_without_room_beside_the_text_are_told_with_their_numbers(
    here: Path, writers: Path
) -> None:
    """How many tokens the image takes only the loaded model knows."""
    prepare(here, writers, 8)
    texts = str(_shortage(local(here, max_output_tokens=8190)))
    alone = int(re.search(r"take (\d+) tokens", texts)[1])
    config = local(here, max_output_tokens=8192 - alone)
    with pytest.raises(UserError, match=r"5 images in a row.*image and text take.*room for 8,192"):
        run(config)


def _shortage(config: Config) -> UserError:
    with pytest.raises(UserError) as error:
        run(config)
    return error.value


def test_too_little_memory_halves_the_batch(
    here: Path, writers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import GenerationMixin

    prepare(here, writers, 12, size=6)
    config = local(here)
    run(config)
    expected, sizes = tables(here), []
    shutil.rmtree(journal(config).parent)
    generate = GenerationMixin.generate

    def limited(self: Any, *args: Any, **inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(self, *args, **inputs)

    monkeypatch.setattr(GenerationMixin, "generate", limited)
    most = 2
    run(config)
    assert tables(here) == expected
    assert sizes[:4] == [6, 3, 2, 1]
    shutil.rmtree(journal(config).parent)
    most = 0
    with pytest.raises(UserError, match="out of memory with a single image"):
        run(config)


def test_dry_run(here: Path, writers: Path, capsys: Any) -> None:
    prepare(here, writers, 12)
    config = local(here)
    assert main(["generate", "--dry-run"]) == 0
    said = capsys.readouterr().out
    for line in (
        "images left        12 of 12",
        "replies            12 (1.00 per image)",
        "model              mixed: writers/mixed, 5 images at a time on compute.device auto",
        "price              nothing",
        "time               unknown",
        f"replies are in     {journal(config).parent}",
    ):
        assert line in said
    assert not journal(config).exists()
    run(config)
    assert main(["generate", "--dry-run"]) == 0
    assert "images left        0 of 12" in capsys.readouterr().out
    assert main(["generate", "--dry-run", "--count-tokens"]) == 2
    assert main(["generate", "--retry-days"]) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "blip"}, "models of the family blip only answer questions here"),
        ({"model": "blip2"}, "models of the family blip2 only answer questions here"),
        ({"model": "gemini-3.5-flash-lite"}, "the profile has no model of this name"),
        ({"model": "chatter", "batch": True}, "annotator: local has no batch jobs"),
    ],
)
def test_what_cant_write_is_refused_with_the_settings(
    here: Path, writers: Path, settings: dict[str, Any], message: str
) -> None:
    prepare(here, writers, 2)
    with pytest.raises(UserError) as caught:
        local(here, **settings)
    assert message in str(caught.value)
    if "batch" not in settings:
        allowed = "(family: chat or llava): good, mixed, library, chatter; the sample's own are too"
        assert allowed in str(caught.value)


def test_a_checkpoint_without_a_template_is_refused(here: Path, writers: Path) -> None:
    prepare(here, writers, 2)
    (here / "writers").unlink()
    save_without_template(here / "writers/good")
    with pytest.raises(UserError, match="has no chat template, so it wasn't trained to follow"):
        run(local(here, "good"))


def kill_again_and_again(command: Sequence[str], file: Path, kills: int) -> int:
    """Start a process and kill it once it has written more; return how often that hit."""
    hits = 0
    for _ in range(kills):
        size = file.stat().st_size if file.exists() else 0
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and (file.stat().st_size if file.exists() else 0) == size:
            time.sleep(0.002)
        hits += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    return hits


@pytest.mark.slow
def test_kills_cost_nothing(here: Path, writers: Path) -> None:
    """The real command line, killed within a batch's write or right after it, 20 times."""
    prepare(here, writers, 300, size=8)
    config = local(here, temperature=0.7)
    run(config)
    expected, entries = tables(here), len(read_journal(journal(config)).entries)
    shutil.rmtree(journal(config).parent)
    command = [sys.executable, "-m", "abo_vqa", "generate", "--shard", "1/1"]
    file = journal(config, "shard-1-of-1.jsonl")
    assert kill_again_and_again(command, file, 20) >= 15
    before = len(read_journal(file).entries)
    assert 0 < before < entries
    run(config)
    assert tables(here) == expected
    assert before + len(read_journal(journal(config)).entries) == entries
