"""What BERTScore and BARTScore share: loading, batches of texts of equal length, memory.

Texts of equal length need no padding, so a score doesn't depend on what else is in its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from abo_vqa.core.errors import UserError
from abo_vqa.core.memory import out_of_memory, release_memory
from abo_vqa.models.hub import quiet
from abo_vqa.models.loading import load_processor, load_whole

if TYPE_CHECKING:
    from abo_vqa.config import CheckpointConfig, ScorerConfig

T = TypeVar("T")
_R = TypeVar("_R")
Pair = tuple[str, str]
_TOKENS_AT_ONCE = 200_000  # bounds memory: 800 MB of vectors of width 1,024
_NO_MAXIMUM = 1_000_000  # tokenizers without a maximum length say 10^30


def load_model(loader: Any, scorer: ScorerConfig, device: str, **options: Any) -> Any:
    """Weights in float32, in evaluation mode on `device`.

    Raises:
        UserError: there is no such checkpoint, or not all of it, or it doesn't fit into memory.
    """
    import torch

    quiet()
    place = torch.device(device)
    options |= {"revision": scorer.revision, "dtype": torch.float32}
    if place.type != "cpu":
        options["device_map"] = {"": place}
    # Encoders are published without the pooler, which classifies, or before it was trained.
    model = load_whole(
        loader, _checkpoint_of(scorer), place, options, optional=("pooler",), supported_settings=()
    )
    return model.eval().requires_grad_(False)


def load_tokenizer(scorer: ScorerConfig, longest: int, **options: Any) -> Any:
    """The tokenizer; `longest` stands in for a maximum length that the folder doesn't state."""
    from transformers import AutoTokenizer

    tokenizer = load_part(AutoTokenizer, scorer, **options)
    if tokenizer.model_max_length > _NO_MAXIMUM:
        tokenizer.model_max_length = longest
    return tokenizer


def load_part(loader: Any, scorer: ScorerConfig, **options: Any) -> Any:
    """A scorer's tokenizer or configuration; a missing one is a UserError."""
    return load_processor(loader, _checkpoint_of(scorer), **options)


def _checkpoint_of(scorer: ScorerConfig) -> CheckpointConfig:
    from abo_vqa.config import CheckpointConfig

    return CheckpointConfig(path=scorer.path, revision=scorer.revision)


def tokenise(tokenizer: Any, texts: Iterable[str]) -> dict[str, list[int]]:
    """Token ids of each distinct text, with the special ones, cut at the maximum length."""
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return {}
    return dict(zip(distinct, tokenizer(distinct, truncation=True)["input_ids"], strict=True))


def batches(items: Iterable[T], key: Callable[[T], Hashable], size: int) -> Iterator[list[T]]:
    """Items of equal key together, at most `size` at a time, in the order keys first occur."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def computed(batch: list[T], compute: Callable[[list[T]], Iterable[_R]]) -> list[_R]:
    """What `compute` makes of a batch's items, in halves from where memory isn't enough.

    Raises:
        MemoryError, RuntimeError: it isn't enough for one item.
    """
    try:
        return list(compute(batch))
    except (MemoryError, RuntimeError) as error:
        if len(batch) == 1 or not out_of_memory(error):
            raise
    release_memory()  # outside the handler, which holds on to what didn't fit
    half = len(batch) // 2
    return [*computed(batch[:half], compute), *computed(batch[half:], compute)]


def scored(
    pairs: Sequence[Pair], tokens: Callable[[Pair], int], score: Callable[[list[Pair]], list[_R]]
) -> dict[Pair, _R]:
    """Scores of distinct pairs, in runs of at most `_TOKENS_AT_ONCE` tokens.

    A run's vectors stay in memory until all its pairs are scored: where that isn't enough, runs are
    halved, too.

    Raises:
        UserError: memory isn't enough for one pair.
    """
    found: dict[Pair, _R] = {}
    for part in parts(pairs, tokens):
        try:
            found.update(zip(part, computed(part, score), strict=True))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise UserError(
                "out of memory while scoring a single pair. Stop what else uses this memory, or "
                "set compute.device to another device; predictions that are finished are kept."
            ) from error
    return found


def parts(pairs: Sequence[Pair], tokens: Callable[[Pair], int]) -> Iterator[list[Pair]]:
    """The pairs in runs of at most `_TOKENS_AT_ONCE` tokens."""
    part: list[Pair] = []
    total = 0
    for pair in pairs:
        if part and total + tokens(pair) > _TOKENS_AT_ONCE:
            yield part
            part, total = [], 0
        part.append(pair)
        total += tokens(pair)
    if part:
        yield part


def counted(pairs: int, name: str) -> Any:
    """A progress bar that stays away when it's over in seconds."""
    from tqdm import tqdm

    return tqdm(total=pairs, desc=name, unit="pair", delay=5, mininterval=1)
