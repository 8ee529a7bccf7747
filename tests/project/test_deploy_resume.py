"""deploy/run.sh on a machine that goes away: another one goes on, and writes the same bytes."""

import signal
import subprocess
import time

import pytest
import yaml
from helpers import scratch

from tests.support import ROOT

SAMPLE = ("dvc", "pull", "--quiet", "--remote", "sample", "data/raw/sample", "models/sample")


def outputs(folder, stage):
    lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for out in lock[stage]["outs"]}


@pytest.fixture
def machine(tmp_path):
    """machine("one"): a clone with the sample's data, and what starts deploy/run.sh in it."""

    def make(name):
        folder = scratch.clone(tmp_path / name)
        scratch.run(folder, *SAMPLE)
        (folder / "data/raw/abo").mkdir()  # DVC looks at all that the settings could name
        log = (tmp_path / f"{name}.log").open("w+")
        variables = scratch.environment(
            STATE=str(tmp_path / "state/session"), PYTHONPATH=str(folder / "src")
        )

        def start():
            return subprocess.Popen(
                ["bash", "deploy/run.sh", "split"],
                cwd=folder,
                env=variables,
                stdout=log,
                stderr=log,
            )

        return folder, start, tmp_path / f"{name}.log"

    return make


@pytest.mark.slow
def test_another_machine_goes_on(machine):
    _, start, log = machine("one")
    process = start()
    deadline = time.monotonic() + 180
    while "Running stage 'generate'" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(180) == 143
    assert "saved to" in log.read_text()

    folder, start, log = machine("two")
    assert start().wait(600) == 0, log.read_text()[-3000:]
    text = log.read_text()
    assert "restored from" in text
    assert "Stage 'curate' didn't change, skipping" in text
    assert outputs(folder, "split") == outputs(ROOT, "split")
