"""Training state on disk: complete or not there, the last few kept."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from abo_vqa.io import atomic_write
from abo_vqa.refusals import storing

# What a damaged file or a state that isn't one makes of reading it.
DAMAGED = (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, UnpicklingError)


class Checkpoints:
    """Numbered states in a folder; the newest usable one is where training goes on."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def files(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("step-*.pt"))

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a state, and remove all but the last `keep`.

        Raises:
            OSError: the system refuses the file; the states so far are as they were.
        """
        import torch

        # Into memory first: torch's own writer hides what the operating system said.
        content = io.BytesIO()
        torch.save(state, content)
        file = self.folder / f"step-{step:08d}.pt"
        with storing(file, content.getbuffer().nbytes), atomic_write(file) as temporary:
            temporary.write_bytes(content.getbuffer())
        for old in self.files()[: -self.keep]:
            old.unlink()

    def load(
        self, fits: Callable[[dict[str, Any]], bool] = lambda state: True
    ) -> dict[str, Any] | None:
        """The newest state that can be read and `fits`; None at a fresh start.

        What is passed over is said on stderr.
        """
        import torch

        files = self.files()
        for file in reversed(files):
            try:
                state: dict[str, Any] = torch.load(file, weights_only=True)
                if fits(state):
                    return state
                why = "it isn't a state of this training"
            except DAMAGED as error:
                why = str(error).strip().partition("\n")[0] or type(error).__name__
            print(f"{file} can't be read ({why}): using the one before.", file=sys.stderr)
        if files:
            print("no checkpoint is whole: training starts over.", file=sys.stderr)
        return None
