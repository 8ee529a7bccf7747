"""Several processes for one stage, on one machine or many.

`accelerate launch`, `torchrun` and `--processes N` (over torchrun) tell each process its number
and how many there are. They share nothing but a folder of journals, so none waits for another,
and a process that dies is started again and goes on from the journals.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from abo_vqa.errors import ComeBackLater

RESTARTS = 3  # of all processes, after one of them died


def rank_and_world() -> tuple[int, int]:
    """This process's number, and how many there are: (0, 1) outside a launcher."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run an abo-vqa command in N processes of this machine, each with its own GPU if there are.

    Raises:
        ComeBackLater: processes died again and again; their answers are kept.
    """
    script = Path(__file__).parent / "__main__.py"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += [f"--nproc-per-node={processes}", f"--max-restarts={RESTARTS}"]
    # torchrun would choose one thread a process, and warn about it; the stage sets its own.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    done = subprocess.run([*torchrun, str(script), *arguments], env=environment, check=False)
    if done.returncode:
        raise ComeBackLater(
            f"one of {processes} processes failed more than {RESTARTS} times (see above). "
            "The answers so far are kept: run the same command to go on."
        )
    return 0
