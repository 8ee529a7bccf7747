"""The rehearsal of the real run, with weights of toy sizes: the same code, ids and layout."""

import json
import shutil
import subprocess
import sys

import pytest
import rehearsal
from helpers import usage
from helpers.hub import catalogue
from helpers.scratch import environment


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """Run the rehearsal with toy weights and some of its stages; its exit code."""

    def run(stages, *options):
        monkeypatch.setattr(rehearsal, "stage_names", lambda models: stages)
        words = ["rehearsal.py", "--sizes", "toy", "--folder", str(tmp_path), *options]
        monkeypatch.setattr(sys, "argv", words)
        return rehearsal.main()

    return run


def test_the_stages_are_the_pipelines():
    names = rehearsal.stage_names(("blip", "blind"))
    assert "embed@blip" in names
    assert names[-5:] == ["baseline@blind", "finetune", "predict", "evaluate", "report"]


def test_a_failed_stage_is_in_the_table_and_the_rest_goes_on(toy, tmp_path, capsys):
    assert toy(["split", "curate"], "--part", "small") == 1
    printed = capsys.readouterr().out
    assert "| split | failed |" in printed
    assert "vqa.csv" in printed  # why it failed
    found = json.loads((tmp_path / "small-toy.json").read_text())
    weights, split, curate = found["stages"]
    assert weights["written"] > 30e6
    assert split["usage"]["status"] != 0
    assert curate["usage"]["status"] == 0
    assert curate["usage"]["memory"] > 50e6
    assert curate["written"] > 0
    assert found["changes"]["profile"] == "abo"
    assert (tmp_path / "clone" / "data" / "balanced.csv").is_file()


def test_checkpoints_are_written_once(tmp_path, capsys):
    wanted = [("roberta-large", "0" * 40)]
    assert catalogue.write_all(tmp_path, wanted, real=False) > 1e6
    assert catalogue.write_all(tmp_path, wanted, real=False) == 0
    assert capsys.readouterr().out.count("writing") == 1


def test_weights_that_do_not_fit_the_disk_are_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    wanted = [("llava-hf/llava-1.5-7b-hf", "0" * 40)]
    with pytest.raises(OSError, match=r"needs 14\.1 GB, and 0\.0 GB are free"):
        catalogue.write_all(tmp_path, wanted, real=True)
    assert list(tmp_path.iterdir()) == []


def test_memory_of_all_processes_is_counted(tmp_path):
    """A child that holds 200 MB, started by the command that is measured."""
    child = "import time; held = b'x' * 200_000_000; time.sleep(1.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    command = [sys.executable, "-c", parent]
    found = usage.measured(command, tmp_path, environment(), tmp_path / "log")
    assert found.status == 0
    assert 200e6 < found.private < 400e6
    assert found.memory >= found.private
    assert found.seconds >= 1.5


@pytest.mark.slow
@pytest.mark.timeout(1800)  # ten minutes beside much else
def test_every_stage_of_the_profile_runs(tmp_path):
    command = [sys.executable, str(rehearsal.ROOT / "benchmarks" / "rehearsal.py")]
    command += ["--sizes", "toy", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    stages = json.loads((tmp_path / "all-toy.json").read_text())["stages"]
    names = [stage["name"] for stage in stages]
    assert names == ["(checkpoints)", *rehearsal.stage_names(rehearsal.every_model())]
    rated = {stage["name"] for stage in stages if stage["full_hours"]}
    assert rated >= {"baseline@blip", "baseline@blip2", "baseline@llava", "baseline@vilt"}
    assert (tmp_path / "clone" / "reports" / "report.html").is_file()
