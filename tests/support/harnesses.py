"""Other projects' harnesses and trainers, run as they are, each in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


class Harness:
    """A harness whose interpreter is named by a variable, or is this one.

    Args:
        module: what is imported, e.g. lmms_eval.
        package: its name on PyPI.
    """

    def __init__(self, module: str, package: str) -> None:
        self.variable = f"ABO_VQA_{module.upper()}"
        default = sys.executable if find_spec(module) else ""
        self.python = os.environ.get(self.variable, default)
        self.needed = pytest.mark.skipif(
            not self.python,
            reason=f"{package} isn't installed, nor does {self.variable} name a Python that has it",
        )

    def run(self, *arguments: str, cwd: Path, **variables: str) -> str:
        """Run the interpreter away from models' hubs; return what it prints.

        Args:
            *arguments: of the interpreter.
            cwd: working directory, also for caches.
            **variables: of its environment.
        """
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment |= {"HF_HOME": str(cwd / "hf"), "HF_HUB_OFFLINE": "1", **variables}
        done = subprocess.run(
            [self.python, "-W", "ignore", *arguments],
            cwd=cwd, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout


LMMS_EVAL = Harness("lmms_eval", "lmms-eval")
VLMEVALKIT = Harness("vlmeval", "ms-vlmeval")
LLAMAFACTORY = Harness("llamafactory", "llamafactory")
MS_SWIFT = Harness("swift", "ms-swift")
