"""Files that torch pickled, read without executing anything in them."""

from __future__ import annotations

import struct
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from abo_vqa.core.errors import AboVqaError, first_line
from abo_vqa.core.memory import out_of_memory

DAMAGE_ERRORS = (
    OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError,
    AssertionError, struct.error, UnpicklingError,
)  # fmt: skip
"""What torch raises for a file that is cut short, altered or of another kind."""


class DamagedFileError(AboVqaError):
    """A file that torch can't read; the message is the reason."""


def load_tensors(file: Path, map_location: str) -> Any:
    """Read tensors and plain values from a file.

    Args:
        file: the file.
        map_location: the device to put tensors on.

    Raises:
        DamagedFileError: it is cut short, altered or of another kind.
    """
    try:
        return torch.load(file, map_location=map_location, weights_only=True)
    except DAMAGE_ERRORS as error:
        if out_of_memory(error):
            raise
        raise DamagedFileError(first_line(error) or type(error).__name__) from error
