"""Training state on disk: complete or not there, the last few kept."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from abo_vqa.core.files import atomic_write
from abo_vqa.core.memory import out_of_memory
from abo_vqa.core.system_errors import storing

# What a damaged file or a state that isn't one makes of reading it.
_DAMAGED = (
    OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError,
    UnpicklingError,
)  # fmt: skip


class Checkpoints:
    """Numbered states in a folder; the newest usable one is where training goes on."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self.written: list[Path] = []

    def files(self) -> list[Path]:
        """By step, which is by age as long as training only went on."""
        return sorted(self.folder.glob("step-*.pt"))

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a state, and remove all but the `keep` that were written last.

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
        # Training may have begun again before files that are still there: theirs go first.
        self.written = [*(f for f in self.written if f != file), file]
        by_age = [*(f for f in self.files() if f not in self.written), *self.written]
        for old in by_age[: -self.keep]:
            old.unlink(missing_ok=True)
        self.written = self.written[-self.keep :]

    def load(
        self, fits: Callable[[dict[str, Any]], bool] = lambda state: True
    ) -> dict[str, Any] | None:
        """The newest state that can be read and `fits`; None at a fresh start.

        Tensors come in the machine's memory, whichever device they were saved from. What is passed
        over gets another name, so that it doesn't count any more, and is said on stderr.
        """
        import torch

        files = self.files()
        for file in reversed(files):
            try:
                state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
                if fits(state):
                    return state
                why = "it isn't a state of this training"
            except _DAMAGED as error:
                if out_of_memory(error):
                    raise
                why = str(error).strip().partition("\n")[0] or type(error).__name__
            aside = file.replace(file.with_name(f"{file.name}.unreadable"))
            print(f"{file} can't be read ({why}), it is {aside.name} now: using the one before.",
                  file=sys.stderr)  # fmt: skip
        if files:
            print("no checkpoint is whole: training starts over.", file=sys.stderr)
        return None
