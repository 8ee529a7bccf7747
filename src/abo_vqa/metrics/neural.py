"""What BERTScore and BARTScore share: loading, batches of texts of equal length, memory.

Texts of equal length need no padding, so a score doesn't depend on what else is in its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from abo_vqa.errors import UserError

if TYPE_CHECKING:
    from abo_vqa.config import Scorer

T = TypeVar("T")
Pair = tuple[str, str]
TOKENS_AT_ONCE = 200_000  # bounds memory: 800 MB of vectors of width 1,024
NO_MAXIMUM = 1_000_000  # tokenizers without a maximum length say 10^30


def load_model(loader: Any, scorer: Scorer, device: str, **options: Any) -> Any:
    """Weights in float32, in evaluation mode on `device`.

    Raises:
        UserError: there is no such checkpoint.
    """
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()  # layers that aren't needed are left out on purpose
    logging.disable_progress_bar()
    try:
        model = loader.from_pretrained(
            scorer.path, revision=scorer.revision, dtype=torch.float32, **options
        )
    except (OSError, ValueError) as error:
        raise no_checkpoint(scorer, error) from error
    return model.eval().requires_grad_(False).to(device)


def load_tokenizer(scorer: Scorer, longest: int, **options: Any) -> Any:
    """The tokenizer; `longest` stands in for a maximum length that the folder doesn't state."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(scorer.path, revision=scorer.revision, **options)
    except (OSError, ValueError) as error:
        raise no_checkpoint(scorer, error) from error
    if tokenizer.model_max_length > NO_MAXIMUM:
        tokenizer.model_max_length = longest
    return tokenizer


def no_checkpoint(scorer: Scorer, error: Exception) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(
        f"can't load {scorer.path} (scorers, in the profile): {reason} "
        "A local folder comes with `dvc pull`; for a hub's model check its name and the network."
    )


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


def parts(pairs: Sequence[Pair], tokens: Callable[[Pair], int]) -> Iterator[list[Pair]]:
    """The pairs in runs of at most `TOKENS_AT_ONCE` tokens."""
    part: list[Pair] = []
    total = 0
    for pair in pairs:
        if part and total + tokens(pair) > TOKENS_AT_ONCE:
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
