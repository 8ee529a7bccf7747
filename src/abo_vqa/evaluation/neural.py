"""What BERTScore and BARTScore share: loading, batches of texts of equal length, memory.

Texts of equal length need no padding, so a score doesn't depend on what else is in its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from abo_vqa.core.config import CheckpointConfig
from abo_vqa.core.errors import UserError
from abo_vqa.core.memory import out_of_memory, release_memory
from abo_vqa.core.progress import progress_bar
from abo_vqa.models.hub import silence_libraries
from abo_vqa.models.loading import load_complete, load_processor

if TYPE_CHECKING:
    from abo_vqa.core.config import ScorerConfig

_T = TypeVar("_T")
_R = TypeVar("_R")
TextPair = tuple[str, str]
TokenIds = dict[str, list[int]]
_CHUNK_TOKENS = 200_000  # bounds memory: 800 MB of vectors of width 1,024
_NO_MAXIMUM = 1_000_000  # tokenizers without a maximum length say 10^30


def load_scorer(loader: type, scorer: ScorerConfig, device: str, **options: Any) -> PreTrainedModel:
    """Load a scorer's weights in float32, in evaluation mode.

    Args:
        loader: a class with `from_pretrained`.
        scorer: the settings.
        device: where the weights go.
        **options: further arguments of `from_pretrained`.

    Returns:
        The model on the device.

    Raises:
        UserError: there is no such checkpoint, or not all of it, or it doesn't fit into memory.
    """
    silence_libraries()
    target = torch.device(device)
    options |= {"revision": scorer.revision, "dtype": torch.float32}
    if target.type != "cpu":
        options["device_map"] = {"": target}
    # Encoders are published without the pooler, which classifies, or before it was trained.
    model: PreTrainedModel = load_complete(
        loader, _checkpoint_of(scorer), target, options, optional=("pooler",), supported_settings=()
    )
    return model.eval().requires_grad_(False)


def load_tokenizer(
    scorer: ScorerConfig, default_length: int, **options: Any
) -> PreTrainedTokenizerBase:
    """Load a scorer's tokenizer.

    Args:
        scorer: the settings.
        default_length: the maximum length where the checkpoint doesn't state one.
        **options: further arguments of `from_pretrained`.

    Raises:
        UserError: there is no such checkpoint.
    """
    tokenizer: PreTrainedTokenizerBase = load_component(AutoTokenizer, scorer, **options)
    if tokenizer.model_max_length > _NO_MAXIMUM:
        tokenizer.model_max_length = default_length
    return tokenizer


def load_component(loader: type, scorer: ScorerConfig, **options: Any) -> Any:
    """Load a scorer's tokenizer or configuration.

    Args:
        loader: a class with `from_pretrained`.
        scorer: the settings.
        **options: further arguments of `from_pretrained`.

    Raises:
        UserError: there is no such checkpoint.
    """
    return load_processor(loader, _checkpoint_of(scorer), **options)


def _checkpoint_of(scorer: ScorerConfig) -> CheckpointConfig:
    return CheckpointConfig(path=scorer.path, revision=scorer.revision)


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> TokenIds:
    """Tokenize each distinct text, with special tokens, truncated at the maximum length.

    Args:
        tokenizer: the scorer's tokenizer.
        texts: any texts.

    Returns:
        Text → its token ids.
    """
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return {}
    return dict(zip(distinct, tokenizer(distinct, truncation=True)["input_ids"], strict=True))


def _equal_length_batches(
    items: Iterable[_T], length: Callable[[_T], Hashable], size: int
) -> Iterator[list[_T]]:
    """Group items of equal length into batches.

    Args:
        items: texts or pairs of them.
        length: the length of an item.
        size: items per batch at most.

    Yields:
        The batches, in the order in which lengths first occur.
    """
    groups: dict[Hashable, list[_T]] = {}
    for item in items:
        groups.setdefault(length(item), []).append(item)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _compute_halving(batch: list[_T], compute: Callable[[list[_T]], Iterable[_R]]) -> list[_R]:
    """Compute a batch, in halves where memory isn't enough for the whole.

    Args:
        batch: the items.
        compute: returns one result per item.

    Returns:
        The results, in the items' order.

    Raises:
        MemoryError: memory isn't enough for one item (on a GPU: RuntimeError).
    """
    try:
        return list(compute(batch))
    except (MemoryError, RuntimeError) as error:
        if len(batch) == 1 or not out_of_memory(error):
            raise
    release_memory()  # outside the handler, which holds on to what didn't fit
    half = len(batch) // 2
    return [*_compute_halving(batch[:half], compute), *_compute_halving(batch[half:], compute)]


def encode_texts(
    tokens: TokenIds,
    texts: Iterable[str],
    batch_size: int,
    encode: Callable[[list[list[int]]], torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Encode each distinct text once.

    Args:
        tokens: text → its token ids.
        texts: the texts.
        batch_size: texts per batch at most.
        encode: hidden states [B, T, D] of B token sequences of equal length T.

    Returns:
        Text → its hidden states [T, D].
    """
    vectors: dict[str, torch.Tensor] = {}

    def encode_batch(batch: list[str]) -> torch.Tensor:
        return encode([tokens[text] for text in batch])

    for batch in _equal_length_batches(dict.fromkeys(texts), lambda t: len(tokens[t]), batch_size):
        vectors.update(zip(batch, _compute_halving(batch, encode_batch), strict=True))
    return vectors


def score_in_chunks(
    pairs: Sequence[TextPair],
    tokens: TokenIds,
    prepare: Callable[[list[TextPair]], Callable[[list[TextPair]], list[_R]]],
    batch_size: int,
    name: str,
) -> dict[TextPair, _R]:
    """Score distinct pairs, a bounded number of tokens at a time.

    A chunk's vectors stay in memory until all its pairs are scored: where that isn't enough,
    chunks are halved, too.

    Args:
        pairs: distinct pairs.
        tokens: text → its token ids.
        prepare: encodes a chunk's texts and returns the function that scores a batch of the
            chunk's pairs, all of the same two lengths.
        batch_size: pairs per batch at most.
        name: the metric's name, for the progress bar.

    Returns:
        Pair → score.

    Raises:
        UserError: memory isn't enough for one pair.
    """

    def lengths(pair: TextPair) -> tuple[int, int]:
        return len(tokens[pair[0]]), len(tokens[pair[1]])

    def score_chunk(chunk: list[TextPair]) -> list[_R]:
        score_batch = prepare(chunk)
        results: dict[TextPair, _R] = {}
        for batch in _equal_length_batches(chunk, lengths, batch_size):
            results.update(zip(batch, _compute_halving(batch, score_batch), strict=True))
            bar.update(len(batch))
        return [results[pair] for pair in chunk]

    scores: dict[TextPair, _R] = {}
    with progress_bar(len(pairs), desc=name, unit="pair", delay=5) as bar:
        for chunk in _chunks(pairs, lambda pair: sum(lengths(pair))):
            try:
                scores.update(zip(chunk, _compute_halving(chunk, score_chunk), strict=True))
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                raise UserError(
                    "out of memory while scoring a single pair. Stop other programs that use this "
                    "memory, or set compute.device to another device; finished predictions are "
                    "kept."
                ) from error
    return scores


def _chunks(
    pairs: Sequence[TextPair], length: Callable[[TextPair], int]
) -> Iterator[list[TextPair]]:
    """The pairs in runs of at most `_CHUNK_TOKENS` tokens."""
    chunk: list[TextPair] = []
    total = 0
    for pair in pairs:
        if chunk and total + length(pair) > _CHUNK_TOKENS:
            yield chunk
            chunk, total = [], 0
        chunk.append(pair)
        total += length(pair)
    if chunk:
        yield chunk
