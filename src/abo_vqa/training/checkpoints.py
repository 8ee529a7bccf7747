"""Checkpoints on disk: each is written completely or not at all, and the last few are kept."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from abo_vqa.core.files import atomic_write
from abo_vqa.core.log import get_logger
from abo_vqa.core.system_errors import report_full_disk
from abo_vqa.models.torch_files import DamagedFileError, load_tensors

logger = get_logger(__name__)

# Errors of comparing something else than a state with this training's.
_FOREIGN = (LookupError, TypeError, AttributeError)


class CheckpointManager:
    """Numbered states in a folder; training resumes from the newest usable one.

    Args:
        folder: the folder.
        keep: number of checkpoints to keep.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self._keep = folder, keep
        self._written: list[Path] = []

    def files(self) -> list[Path]:
        """Return the checkpoints by step: by age, unless training started over."""
        return sorted(self.folder.glob("step-*.pt"))

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a state, and delete all but the `keep` checkpoints that were written last.

        Raises:
            OSError: the system refuses the file; the earlier checkpoints are untouched.
        """
        # Into memory first: torch's own writer hides what the operating system said.
        content = io.BytesIO()
        torch.save(state, content)
        file = self.folder / f"step-{step:08d}.pt"
        with report_full_disk(file, content.getbuffer().nbytes), atomic_write(file) as temporary:
            temporary.write_bytes(content.getbuffer())
        # If training started over, files of later steps may be older: they are deleted first.
        self._written = [*(f for f in self._written if f != file), file]
        by_age = [*(f for f in self.files() if f not in self._written), *self._written]
        for old in by_age[: -self._keep]:
            old.unlink(missing_ok=True)
        self._written = self._written[-self._keep :]

    def load(
        self, matches: Callable[[dict[str, Any]], bool] | None = None
    ) -> dict[str, Any] | None:
        """Return the newest state that can be read and matches; None if there is none.

        Its tensors are on the CPU, whichever device they were saved from. Files that can't be used
        are reported and renamed, so that they no longer count.

        Args:
            matches: whether a state belongs to this training; None for any.
        """
        files = self.files()
        for file in reversed(files):
            try:
                state: dict[str, Any] = load_tensors(file, "cpu")
                if matches is None or matches(state):
                    return state
                reason = "it isn't a state of this training"
            except _FOREIGN:
                reason = "it isn't a state of a training"
            except DamagedFileError as error:
                reason = str(error)
            aside = file.replace(file.with_name(f"{file.name}.unreadable"))
            logger.warning(
                f"{file} can't be read ({reason}). It was renamed to {aside.name}: "
                "using the previous one."
            )
        if files:
            logger.warning("no checkpoint can be used: training starts over.")
        return None
