"""Positions of a prompt's tokens for the language model's position embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from abo_vqa.models.causal.architectures import Architecture


def prompt_positions(
    model: PreTrainedModel,
    architecture: Architecture,
    ids: Sequence[int],
    grid: Sequence[int],
) -> Tensor:
    """Return the positions of a prompt's tokens.

    Args:
        model: the model.
        architecture: its architecture.
        ids: L token ids.
        grid: frames, rows and columns of the image's patches.

    Returns:
        [L], or [3, L] with frames, rows and columns apart (Qwen2-VL, arXiv:2409.12191, section
        2.1). Text that follows continues after the largest of them.
    """
    if not architecture.grid_positions:
        return torch.arange(len(ids)) + architecture.first_position
    tokens = torch.tensor([list(ids)])
    is_image = (tokens == model.config.image_token_id).int()
    positions: Tensor
    positions, _ = model.model.get_rope_index(
        tokens, mm_token_type_ids=is_image, image_grid_thw=torch.tensor([list(grid)])
    )  # [3, 1, L]
    return positions[:, 0]


def continue_positions(positions: Tensor, count: int) -> Tensor:
    """Return the positions of text that follows.

    Args:
        positions: [L] or [3, L], those before.
        count: the number of tokens that follow.

    Returns:
        [count] or [3, count].
    """
    following = torch.arange(count) + int(positions.max()) + 1
    return following.expand(*positions.shape[:-1], count)


def pad_positions(positions: Sequence[Tensor]) -> Tensor:
    """Join the positions of several rows, padded with zeros on the left.

    Args:
        positions: B tensors [L] or [3, L].

    Returns:
        [B, longest] or [3, B, longest].
    """
    longest = max(row.shape[-1] for row in positions)
    padded = [torch.nn.functional.pad(row, (longest - row.shape[-1], 0)) for row in positions]
    return torch.stack(padded, dim=-2)
