"""A batch of rows as tensors, and its way onto the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from abo_vqa.core.memory import out_of_memory

IGNORED = -100  # torch's label for positions that the loss leaves out


@dataclass(frozen=True)
class Batch:
    """B rows about P images; a family's subclass adds their tokens.

    Attributes:
        stays_on_cpu: names of tensors that aren't moved: what decides what is computed, for which a
            GPU would have to be waited for.
        rows: the rows' positions in the table.
        images: P images, encoded or preprocessed, see `ImageSource`.
        image_index: [B] each row's image; stays on the CPU.
    """

    stays_on_cpu: ClassVar[tuple[str, ...]] = ("image_index",)
    rows: list[int]
    images: Any
    image_index: Tensor

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device.

        Copies to a GPU go through pinned memory and don't block: they are queued among the kernels.
        They are a few MB, under a hundredth of a step.
        """
        if device.type != "cuda":
            return self
        moved: dict[str, Any] = {}
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            moved[name] = _pin(value) if name in self.stays_on_cpu else _to_gpu(value, device)
        return replace(self, **moved)


def _to_gpu(value: Any, device: torch.device) -> Any:
    """Copy the tensors in a value to a GPU, those in lists, mappings and dataclasses included."""
    if isinstance(value, Tensor):
        pinned = _pin(value) if value.device.type == "cpu" else value
        return pinned.to(device, non_blocking=True)
    if isinstance(value, list | tuple):
        return type(value)(_to_gpu(item, device) for item in value)
    if isinstance(value, Mapping):
        return {name: _to_gpu(item, device) for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        moved = {field.name: _to_gpu(getattr(value, field.name), device) for field in fields(value)}
        return replace(value, **moved)
    return value


def _pin(tensor: Tensor) -> Tensor:
    """A copy in pinned memory, or the tensor itself where the system lets no more be pinned.

    Its copy to the GPU is slower then.
    """
    try:
        return tensor.pin_memory()
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return tensor


def pad_tokens(sequences: Sequence[Tensor], pad: int) -> tuple[Tensor, Tensor]:
    """Return token ids [B, L] padded on the right, and their mask [B, L], 0 at padding."""
    ids = pad_sequence(list(sequences), batch_first=True, padding_value=pad)
    lengths = torch.tensor([len(tokens) for tokens in sequences])
    return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()
