"""A real Slurm on this machine: a controller, and two nodes that are the same host twice."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.support.servers.ports import free_port

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")


def available() -> bool:
    """Whether Slurm is installed (Debian: slurmctld, slurmd, slurm-client), and may be started."""
    return os.geteuid() == 0 and all(shutil.which(name) for name in PROGRAMS)


class Slurm:
    """The daemons, in a folder of their own; without authentication."""

    def __init__(self, root: Path) -> None:
        self.root, self.host = root, socket.gethostname()
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Slurm:
        config = self.root / "slurm.conf"
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "state").mkdir()
        node = f"NodeHostname={self.host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000"
        lines = [
            "ClusterName=test",
            f"SlurmctldHost={self.host}(127.0.0.1)",
            f"SlurmctldPort={free_port()}",
            *("SlurmUser=root", "SlurmdUser=root", "AuthType=auth/none", "CredType=cred/none"),
            *("ProctrackType=proctrack/pgid", "TaskPlugin=task/none", "MpiDefault=none"),
            *("SelectType=select/cons_tres", "SelectTypeParameters=CR_CPU", "ReturnToService=2"),
            *("JobAcctGatherType=jobacct_gather/none", "KillWait=5", "JobRequeue=1"),
            "AccountingStorageType=accounting_storage/none",
            "SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1",
            f"StateSaveLocation={self.root}/state",
            f"SlurmdSpoolDir={self.root}/spool-%n",
            f"SlurmctldPidFile={self.root}/slurmctld.pid",
            f"SlurmdPidFile={self.root}/slurmd-%n.pid",
            f"SlurmctldLogFile={self.root}/slurmctld.log",
            f"SlurmdLogFile={self.root}/slurmd-%n.log",
            *(f"NodeName=n{i} Port={free_port()} {node}" for i in (1, 2)),
            "PartitionName=all Nodes=n1,n2 Default=YES State=UP",
        ]
        config.write_text("\n".join(lines) + "\n")
        self.environment = os.environ | {"SLURM_CONF": str(config)}
        for words in (
            ["slurmctld", "-D"],
            ["slurmd", "-D", "-N", "n1"],
            ["slurmd", "-D", "-N", "n2"],
        ):
            log = (self.root / f"{words[-1]}.out").open("wb")
            self._daemons.append(
                subprocess.Popen(words, env=self.environment, stdout=log, stderr=log)
            )
        self._await(lambda: self.call("sinfo", "-h", "-o", "%T %D") == "idle 2")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["scancel", "-u", "root"], env=self.environment, check=False)
        time.sleep(1)
        for daemon in self._daemons:
            daemon.terminate()
        for daemon in self._daemons:
            daemon.wait(30)

    def call(self, *words: str) -> str:
        """Run one of Slurm's commands; return what it prints."""
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    def submit(self, checkout: Path, log: Path, *words: str) -> str:
        """Submit deploy/slurm.sh of a checkout; return the job's number."""
        done = subprocess.run(
            ["sbatch", "--parsable", f"--output={log}", *words],
            cwd=checkout, env=self.environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def state(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        words = self.call("scontrol", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def await_state(self, job: str, *states: str, seconds: float = 120) -> dict[str, str]:
        """Wait until a job has one of some states."""
        self._await(lambda: self.state(job).get("JobState") in states, seconds)
        return self.state(job)

    def _await(self, condition: object, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():  # type: ignore[operator]
            if time.monotonic() > deadline:
                logs = [p.read_text(errors="replace")[-2000:] for p in self.root.glob("*.log")]
                raise AssertionError("\n".join(logs))
            time.sleep(0.3)
