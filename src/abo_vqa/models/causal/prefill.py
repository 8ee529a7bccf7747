"""Prefill: prompts through the language model, what precedes the question once per image.

Its own instead of `generate` of transformers, which runs the whole prompt of each question, the
image's hundreds of tokens included. Here the KV cache of the common start is computed once and
shared by all questions about an image (docs/benchmarks.md).

Shapes: B prompts of up to L tokens, padded on the left; vocabulary V.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from abo_vqa.models.causal.positions import pad_positions

if TYPE_CHECKING:
    from transformers import Cache

    from abo_vqa.models.encoded import EncodedImage


@dataclass(frozen=True)
class Prompt:
    """A question about an image, as the language model reads it.

    Attributes:
        ids: L token ids, with a placeholder for each of the image's tokens.
        positions: [L] or [3, L].
        text_start: the number of tokens up to the last of the image's.
    """

    ids: Sequence[int]
    positions: Tensor
    text_start: int

    def part(self, start: int, end: int | None = None) -> Prompt:
        """Return some of the tokens."""
        return Prompt(self.ids[start:end], self.positions[..., start:end], 0)


@dataclass(frozen=True)
class Segment:
    """What a forward pass of the language model is given.

    Attributes:
        ids: [B, S] token ids of S tokens, padded on the left.
        images: the images whose placeholders are among them, row by row.
        positions: [B, S] or [3, B, S].
        mask: [B, cached + S], nonzero where positions aren't padding; in training also
            [B, 1, S, S] of the attention implementation's kind.
        cache: the KV cache of the positions before; None: there are none.
        logits_to_keep: the number of last positions whose logits are needed, or the positions.
        token_types: [B, S] for architectures that distinguish tokens; see `Architecture`.
        use_cache: whether the result's KV cache is needed.
    """

    ids: Tensor
    images: Sequence[EncodedImage]
    positions: Tensor
    mask: Tensor
    cache: Cache | None
    logits_to_keep: int | Tensor = 1
    token_types: Tensor | None = None
    use_cache: bool = True


@dataclass
class Prefilled:
    """Prompts that have gone through the language model.

    Attributes:
        logits: [B, V], of the token after each prompt.
        cache: the KV cache of the prompts.
        mask: [B, L] of its positions: the common start, padding, the rest of each prompt.
        positions: [B, 1] or [3, B, 1], of the token after each prompt.
    """

    logits: Tensor
    cache: Cache
    mask: Tensor
    positions: Tensor


Forward = Callable[[Segment], Any]
"""A forward pass whose result has `logits` [B, logits_to_keep, V] and `past_key_values`."""


def prefill(
    forward: Forward,
    prompts: Sequence[Prompt],
    images: Sequence[EncodedImage],
    image_token: int,
    share: bool,
) -> Prefilled:
    """Run prompts through the language model.

    Args:
        forward: the language model.
        prompts: B prompts.
        images: each prompt's image; the same object for all prompts about an image.
        image_token: the id of the image's placeholders.
        share: whether what precedes the questions may be computed once for each image.
    """
    cache = None
    mask = torch.zeros(len(prompts), 0, dtype=torch.long)
    rest, pending = list(prompts), list(images)
    rows: dict[int, int] = {}  # image → its first prompt
    for row, image in enumerate(images):
        rows.setdefault(id(image), row)
    if share and len(rows) < len(prompts) and same_start(prompts, list(map(id, images))):
        common = common_start(prompts)
        starts = [prompts[row].part(0, prompts[row].text_start + common) for row in rows.values()]
        segment = make_segment(
            starts, [images[row] for row in rows.values()], image_token, mask[: len(rows)], None
        )
        cache = forward(segment).past_key_values
        position = {key: i for i, key in enumerate(rows)}
        # Indices on the CPU: layers, and so their keys, may be on several GPUs.
        index = torch.tensor([position[id(image)] for image in images])
        cache.batch_select_indices(index)
        mask = segment.mask[index]
        rest = [prompt.part(prompt.text_start + common) for prompt in prompts]
        pending = []
    segment = make_segment(rest, pending, image_token, mask, cache)
    output = forward(segment)
    following = [prompt.positions.max() + 1 for prompt in prompts]
    positions = torch.stack(following)[:, None]  # [B, 1]
    positions = positions.expand(*prompts[0].positions.shape[:-1], -1, -1)
    return Prefilled(output.logits[:, -1], output.past_key_values, segment.mask, positions)


def make_segment(
    prompts: Sequence[Prompt],
    images: Sequence[EncodedImage],
    image_token: int,
    mask: Tensor,
    cache: Cache | None,
) -> Segment:
    """Pad prompts on the left.

    Args:
        prompts: B prompts, or parts of them.
        images: the images whose placeholders are among their tokens.
        image_token: the id of the image's placeholders.
        mask: [B, cached], of the cached positions.
        cache: the KV cache of the positions before.
    """
    longest = max(len(prompt.ids) for prompt in prompts)
    pad = int(image_token == 0)  # masked: any token but the image's will do
    padding = [longest - len(prompt.ids) for prompt in prompts]
    ids = [[pad] * n + list(prompt.ids) for n, prompt in zip(padding, prompts, strict=True)]
    known = [[0] * n + [1] * (longest - n) for n in padding]
    return Segment(
        torch.tensor(ids),
        images,
        pad_positions([prompt.positions for prompt in prompts]),
        torch.cat([mask, torch.tensor(known)], dim=1),
        cache,
    )


def common_start(prompts: Sequence[Prompt]) -> int:
    """Return how many tokens after the image all prompts have in common, except their last one.

    Args:
        prompts: the prompts, of one or several images.
    """
    tails = [prompt.ids[prompt.text_start :] for prompt in prompts]
    limit = min(map(len, tails)) - 1
    length = 0
    while length < limit and all(tail[length] == tails[0][length] for tail in tails):
        length += 1
    return length


def same_start(prompts: Sequence[Prompt], images: Sequence[int]) -> bool:
    """Return whether all prompts of an image begin alike, up to the end of the image's tokens.

    They don't if a question precedes the image.

    Args:
        prompts: the prompts, of one or several images.
        images: what tells each prompt's image from the others.
    """
    starts: dict[int, Sequence[int]] = {}
    for prompt, image in zip(prompts, images, strict=True):
        start = prompt.ids[: prompt.text_start]
        if starts.setdefault(image, start) != start or len(start) == len(prompt.ids):
            return False
    return True


def like_lengths(prompts: Sequence[Prompt], equal: bool) -> list[list[int]]:
    """Group prompts so that little is padded.

    Up to the end of the image they differ by a tenth and eight tokens at most, or not at all if
    `equal`; questions are short beside that.

    Prompts of an image have nearly the same length and stay together where that allows it.

    Args:
        prompts: the prompts.
        equal: whether a group's prompts must be of one length, and of one up to the image's end.
    """

    def key(row: int) -> tuple[int, int]:
        prompt = prompts[row]
        return prompt.text_start, len(prompt.ids)

    groups: list[list[int]] = []
    for row in sorted(range(len(prompts)), key=key):
        first = prompts[groups[-1][0]] if groups else None
        prompt = prompts[row]
        if first is not None and (
            key(row) == key(groups[-1][0])
            if equal
            else prompt.text_start <= 1.1 * first.text_start + 8
        ):
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
