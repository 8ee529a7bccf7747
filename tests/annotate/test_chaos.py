"""Kill the process at random, again and again, against a server that errs: nothing is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from abo_vqa.annotate.model_run import annotations_folder
from abo_vqa.remote.journal import group_by_image, read_journal
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, make, vqa
from tests.support.servers.gemini import GeminiServer
from tests.support.servers.openai_chat import OpenAIServer

SERVERS = {"gemini": GeminiServer, "openai": OpenAIServer}
MODELS = {"gemini": "gemini-3.5-flash-lite", "openai": "gpt-5-mini"}


def complete(journal: Path) -> set[str]:
    """Images that the journal has all pairs of."""
    if not journal.is_file():
        return set()
    found = group_by_image(read_journal(journal).entries)
    return {image for (image, _), known in found.items() if sum(len(e.pairs) for e in known) >= 3}


def start() -> subprocess.Popen[bytes]:
    """The real command line; `--shard 1/1` is the whole work, without MLflow's seconds."""
    command = [sys.executable, "-m", "abo_vqa", "generate", "--shard", "1/1"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def strike(server: GeminiServer, dice: random.Random, images: int, kills: int) -> bool:
    """Start the process and kill it at a random moment; False if it finished before."""
    before = len(server.calls)
    # Few enough calls between kills that images are left for all of them, also on a busy machine.
    step = dice.randint(0, max(2, images // kills))
    process = start()
    while process.poll() is None and len(server.calls) < before + step:
        time.sleep(0.001)
    time.sleep(dice.uniform(0, 0.05) if step else dice.uniform(0, 1.5))  # 0: while it starts
    running = process.poll() is None
    process.kill()
    process.wait()
    return running


def chaos(here: Path, images: int, kills: int, seed: int, protocol: str = "gemini") -> None:
    chosen = {"annotator": protocol, "model": MODELS[protocol]}
    rows = make(here, images)
    names = {row["name"].partition(",")[0]: row["image_path"] for row in rows}
    with SERVERS[protocol]() as server:
        run(configure(here, **chosen, base_url=server.url, image_size=200))
        clean = [row | {"annotator": ""} for row in vqa(here)]
        (here / "data/generated.csv").unlink()
    assert len(clean) == 3 * images
    dice = random.Random(seed)
    faulty = {"rate": 0.2, "seed": seed, "delay": 0.1, "slow": 0.1, "hang": 1.2, "latency": 0.02}
    with SERVERS[protocol](**faulty) as server:
        settings = {**chosen, "base_url": server.url, "timeout_s": 0.8}
        config = configure(here, concurrency=4, **settings)
        journal = annotations_folder(config.generate) / "shard-1-of-1.jsonl"
        struck = 0
        for _ in range(3 * kills):
            done, before = complete(journal), len(server.calls)
            struck += strike(server, dice, images, kills)
            again = {names[call.product] for call in server.calls[before:]} & done
            assert not again, "asked about an image that the journal has"
            if struck == kills:
                break
            if len(complete(journal)) == images:
                break
        run(config)
        # A tear at the very end, as a power cut would leave it.
        with journal.open("ab") as handle:
            handle.write(b'{"image": "00/0')
        asked = len(server.calls)
        run(config)
        assert len(server.calls) == asked
    assert struck >= kills, f"only {struck} kills hit a running process"
    assert [row | {"annotator": ""} for row in vqa(here)] == clean
    faults = sum(bool(call.fault) for call in server.generated())
    assert faults >= 0.1 * len(server.generated())


def test_kills_and_faults(here: Path) -> None:
    chaos(here, images=30, kills=3, seed=1)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_waits_for_replies_on_their_way(here: Path, number: int, code: int) -> None:
    make(here, 12)
    with GeminiServer(latency=0.3) as server:
        config = configure(here, annotator="gemini", base_url=server.url, concurrency=2)
        process = start()
        while len(server.calls) < 3:
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(60) == code
        entries = read_journal(annotations_folder(config.generate) / "shard-1-of-1.jsonl").entries
        assert len(entries) == len(server.calls) < 12


@pytest.mark.slow
@pytest.mark.parametrize("protocol", SERVERS)
def test_fifty_kills_in_three_hundred_images(here: Path, protocol: str) -> None:
    chaos(here, images=300, kills=50, seed=2, protocol=protocol)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", SERVERS)
def test_kills_and_faults_of_batch_jobs(here: Path, protocol: str) -> None:
    images, kills = 40, 10
    settings = {"annotator": protocol, "model": MODELS[protocol], "image_size": 64}
    make(here, images)
    with SERVERS[protocol]() as server:
        run(configure(here, **settings, base_url=server.url))
        clean = [row | {"annotator": ""} for row in vqa(here)]
        (here / "data/generated.csv").unlink()
    dice = random.Random(3)
    with SERVERS[protocol](rate=0.2, seed=3) as server:
        # Another temperature has another journal.
        batch = {"batch": True, "batch_images": 8, "batch_poll_s": 0.02, "temperature": 0.3}
        config = configure(here, **settings, **batch, base_url=server.url)
        journal = annotations_folder(config.generate) / "shard-1-of-1.jsonl"
        struck = sum(strike(server, dice, images, kills) for _ in range(kills))
        run(config)
    assert struck >= kills / 2
    assert [row | {"annotator": ""} for row in vqa(here)] == clean
    replies = [(e.job, e.image_path) for e in read_journal(journal).entries if e.job]
    assert len(replies) == len(set(replies)), "a reply is in the journal twice"
