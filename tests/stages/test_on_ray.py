"""Stages on a real Ray cluster of two machines: a worker, a machine and the driver are killed."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.paths import ADAPTER, embeddings_of, predictions_of, vectors_of
from abo_vqa.models.answering.journal import Journal
from abo_vqa.stages import baseline, embed, predict, vectors
from tests.support import workspaces
from tests.support.adapters import adapter_for
from tests.support.forks import Fork, command
from tests.support.stages import run_stage

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

BLIP = predictions_of("blip")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    workspaces.workspace(root, "blip", "clip", images=24, broken=1)
    params = root / "params.yaml"
    params.write_text(re.sub(r"(?m)^( +engine:) local", r"\1 ray", params.read_text()))
    return root


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    return project


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The machine that the driver is on, without room for workers, and two with one core each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def locally() -> Config:
    config = load_config()
    compute = config.compute.model_copy(update={"engine": "local"})
    return config.model_copy(update={"compute": compute})


def workers() -> list[psutil.Process]:
    """Processes of workers that compute at the moment."""
    every = psutil.process_iter(["cmdline"])
    return [process for process in every if "ray::Worker" in str(process.info["cmdline"])]


def kill_worker(_cluster: Cluster) -> None:
    os.kill(workers()[0].pid, signal.SIGKILL)


def kill_machine(cluster: Cluster) -> None:
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)


def at_batch(number: int, action: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the driver do something before it journals a batch; return the rows journaled."""
    writer, rows, calls = Journal.writer, [], []

    def watched(self):
        write = writer(self)

        def counted(row_ids, answers):
            calls.append(1)
            if len(calls) == number:
                action()
            rows.extend(row_ids)
            write(row_ids, answers)

        return counted

    monkeypatch.setattr(Journal, "writer", watched)
    return rows


@pytest.mark.parametrize("kill", [kill_worker, pytest.param(kill_machine, marks=pytest.mark.slow)])
def test_a_baseline_whose_worker_or_machine_is_killed(
    here: Path, cluster: Cluster, monkeypatch, kill, capsys
) -> None:
    run_stage(baseline, locally(), model="blip")
    whole = BLIP.read_bytes()
    BLIP.unlink()
    rows = at_batch(3, partial(kill, cluster), monkeypatch)
    run_stage(baseline, load_config(), model="blip")
    assert BLIP.read_bytes() == whole
    assert sorted(rows) == list(range(72))  # none twice
    assert "its batches go to another one" in capsys.readouterr().err


@pytest.mark.slow
def test_a_baseline_whose_driver_is_killed(here: Path, cluster: Cluster) -> None:
    run_stage(baseline, locally(), model="blip")
    whole = BLIP.read_bytes()
    BLIP.unlink()
    killed = Fork(partial(command, "baseline", "--model", "blip", killed_at=3))
    stderr = killed.wait()
    assert killed.returncode == -signal.SIGKILL, stderr[-2000:]
    [journal] = Path(".cache/abo-vqa/baseline-blip").glob("*/answers-0.jsonl")
    before = {row for line in journal.read_text().splitlines() for row, *_ in json.loads(line)}
    assert 0 < len(before) < 72
    again = Fork(partial(command, "baseline", "--model", "blip"))
    assert (again.wait(), again.returncode)[1] == 0
    assert BLIP.read_bytes() == whole


@pytest.mark.slow
def test_every_model_stage_writes_the_same_bytes(here: Path, cluster: Cluster) -> None:
    """Batches of questions, vision outputs in their order, an adapter, free and ranked."""
    adapter_for(Path("models/blip"), ADAPTER, ["query", "value"])
    stages = [
        (partial(baseline.run, model="clip-fixed"), Path("reports/baselines/clip-fixed")),
        (partial(embed.run, model="blip"), embeddings_of("blip")),
        (partial(vectors.run, model="clip"), vectors_of("clip")),
        (predict.run, Path("reports/finetuned")),
    ]
    shutil.copy("data/vqa.csv", "data/generated.csv")
    written = []
    for settings in (locally(), load_config()):
        contents = []
        for run, folder in stages:
            shutil.rmtree(folder, ignore_errors=True)
            run(settings).cleanup()
            contents.append({file.name: file.read_bytes() for file in sorted(folder.iterdir())})
        written.append(contents)
    assert all(written[0])
    assert written[0] == written[1]
