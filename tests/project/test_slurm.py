"""deploy/slurm.sh on a real Slurm with two nodes: it runs, saves, is requeued, and goes on."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.servers.slurm import Slurm, available

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not available(), reason="needs Slurm's daemons, and root to start them"),
]
SMALL = ("--cpus-per-task=1", "--gpus-per-node=0", "--mem=500M", "--time=10")
RESUMABLE = """\
if [ -e saved ]; then echo "goes on with $(cat saved)"; exit 0; fi
trap 'echo half > saved; sleep 1; echo saved; exit 143' TERM
echo started
while true; do sleep 0.2; done
"""
NODES = """\
import ray
ray.init(log_to_driver=False)
print(sum(node["Alive"] for node in ray.nodes()), "nodes", ray.cluster_resources()["CPU"], "cores")
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with Slurm(tmp_path_factory.mktemp("slurm") / "slurm") as running:
        yield running


@pytest.fixture
def checkout(tmp_path):
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    return tmp_path


def test_a_job_runs_and_fails_with_the_commands_code(slurm, checkout):
    log = checkout / "log"
    job = slurm.submit(
        checkout, log, "--nodes=1", *SMALL, "deploy/slurm.sh", "bash", "-c", "echo in $PWD; exit 3"
    )
    state = slurm.await_state(job, "FAILED")
    assert state["ExitCode"] == "3:0"
    assert f"in {checkout}" in log.read_text()
    assert state["Restarts"] == "0"


def test_sigterm_saves_and_the_job_goes_on_from_the_queue(slurm, checkout):
    """As before the end of its time (`--signal=B:TERM@120`)."""
    log = checkout / "log"
    (checkout / "stage.sh").write_text(RESUMABLE)
    job = slurm.submit(checkout, log, "--nodes=1", *SMALL, "deploy/slurm.sh", "bash", "stage.sh")
    slurm._await(lambda: log.exists() and "started" in log.read_text())
    slurm.call("scancel", "--signal=TERM", "--batch", job)
    state = slurm.await_state(job, "PENDING")
    assert (state["Restarts"], (checkout / "saved").read_text()) == ("1", "half\n")
    slurm.call("scontrol", "update", f"JobId={job}", "StartTime=now")  # not two minutes later
    slurm.await_state(job, "COMPLETED")
    assert "goes on with half" in log.read_text()


def test_several_nodes_are_one_ray_cluster(slurm, checkout):
    pytest.importorskip("ray")
    log = checkout / "log"
    (checkout / "nodes.py").write_text(NODES)
    command = [str(Path(sys.executable)), "nodes.py"]
    job = slurm.submit(checkout, log, "--nodes=2", *SMALL, "deploy/slurm.sh", *command)
    slurm.await_state(job, "COMPLETED", seconds=240)
    assert "2 of 2 machines are in the cluster" in log.read_text()
    assert "\n2 nodes 2.0 cores\n" in log.read_text()  # one of each node's two
