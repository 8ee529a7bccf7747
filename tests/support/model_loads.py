"""Loads models in processes that share what takes seconds: the imports.

The hub's client reads its address and its cache's folder when it is imported. So one process
imports everything for one address, and each load is a fork of it with its own state of the rest:
environment, what is known of the hub, open files.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from abo_vqa.cli import run_with_safe_output
from abo_vqa.core.config import CheckpointConfig, ComputeConfig
from abo_vqa.models.registry import FAMILIES, family_class
from tests.support import ROOT
from tests.support.servers.model_hub import COMMIT


class ModelLoads:
    """A process that has imported what loading needs, and loads models in forks of it.

    Args:
        url: of the hub.
        folder: for the hub's cache and what the loads print.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.port = int(url.rpartition(":")[2])
        self.folder, self.home = folder, folder / "home"
        env = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(self.home), "HF_HUB_OFFLINE": "0"}
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        env.pop("HF_TOKEN", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.model_loads"],
            cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def empty_cache(self) -> None:
        """As on a machine where nothing has been downloaded."""
        shutil.rmtree(self.home, ignore_errors=True)

    def load(self, family: str, path: str = "org/model", token: str | None = None):
        """Load a model.

        Returns:
            returncode, stdout and stderr.
        """
        assert self.process.stdin
        assert self.process.stdout
        out, err = self.folder / "out.txt", self.folder / "err.txt"
        job = {"family": family, "path": path, "token": token, "out": str(out), "err": str(err)}
        print(json.dumps(job), file=self.process.stdin, flush=True)
        code = int(self.process.stdout.readline())
        return SimpleNamespace(returncode=code, stdout=out.read_text(), stderr=err.read_text())

    def close(self) -> None:
        self.process.communicate()  # no more input: it ends


def main() -> None:
    """Read jobs, one a line; write their exit codes."""
    for target in FAMILIES.values():
        importlib.import_module(target.partition(":")[0])
    for line in sys.stdin:
        job = json.loads(line)
        if pid := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
            continue
        code = 1
        try:
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(job[name], os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
            code = run(job)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def run(job: dict) -> int:
    """Load the job's model, as a stage does; returns the exit code."""
    if job["token"]:
        os.environ["HF_TOKEN"] = job["token"]

    def work() -> int:
        checkpoint = CheckpointConfig(path=job["path"], revision=COMMIT, family=job["family"])
        family_class(checkpoint).load(checkpoint, ComputeConfig(device="cpu", dtype="float32"))
        print("loaded")
        return 0

    return run_with_safe_output("baseline", work)


if __name__ == "__main__":
    main()
