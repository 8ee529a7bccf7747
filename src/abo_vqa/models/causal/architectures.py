"""What distinguishes the architectures of transformers that the engine runs.

The engine gives a model its own vision output (`mm_encoder_outputs` of transformers) and its own
positions and masks. Whether that is right depends on the architecture, so only those are listed
here that are tested against the library one row at a time (tests/models/test_vlms.py). Others can
be asked through the library's `generate` (`abo_vqa.models.library_chat`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True)
class Architecture:
    """How a model type of transformers treats a prompt with an image.

    Attributes:
        features: whether its forward pass takes image features as one tensor, or as a list with
            one tensor for each image.
        token_types: which tokens `token_type_ids` distinguishes: the image's, which attend to each
            other in both directions, or the prompt's, which all do; "" if it has none.
        first_position: the position of a prompt's first token.
        grid_positions: whether an image's tokens have the rows and columns of a grid as positions.
        causal: whether no token of a prompt attends to later text. Only then can what precedes the
            question be computed once for all questions about an image.
        one_sequence: whether an image's questions can be trained in one sequence, which takes a
            mask of its own.
    """

    features: Literal["list", "tensor"] = "list"
    token_types: Literal["", "image", "prompt"] = ""
    first_position: int = 0
    grid_positions: bool = False
    causal: bool = True
    one_sequence: bool = True


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "blip-2": Architecture(features="tensor"),
        "gemma3": Architecture(features="tensor", token_types="image", one_sequence=False),
        "idefics3": Architecture(),
        "internvl": Architecture(features="tensor"),
        "llava": Architecture(),
        "llava_next": Architecture(),
        "paligemma": Architecture(
            features="tensor",
            token_types="prompt",
            first_position=1,
            causal=False,
            one_sequence=False,
        ),
        "qwen2_vl": Architecture(grid_positions=True),
        "qwen2_5_vl": Architecture(grid_positions=True),
        "qwen3_vl": Architecture(grid_positions=True),
        "smolvlm": Architecture(),
    }
)
"""`model_type` of a configuration of transformers → what is special about it."""
