"""Training state on disk: complete or not there, the last few kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from abo_vqa.io import atomic_write


class Checkpoints:
    """Numbered states in a folder; the newest readable one is where training goes on."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def files(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("step-*.pt"))

    def save(self, step: int, state: dict[str, Any]) -> None:
        import torch

        with atomic_write(self.folder / f"step-{step:08d}.pt") as temporary:
            torch.save(state, temporary)
        for old in self.files()[: -self.keep]:
            old.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest state that can be read; None at a fresh start."""
        import torch

        for file in reversed(self.files()):
            try:
                state: dict[str, Any] = torch.load(file, weights_only=True)
            except (OSError, EOFError, RuntimeError, ValueError) as error:  # a damaged disk
                print(f"{file} can't be read ({error}): using the one before.", file=sys.stderr)
                continue
            return state
        return None
