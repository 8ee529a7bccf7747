"""Neural scorers' numbers without their networks, for what is measured around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest import mock
from zlib import crc32

Pair = tuple[str, str]


class StandIn:
    """The same numbers for the same pair."""

    def __init__(self, *_: object) -> None:
        pass

    def signature(self) -> str:
        return "a stand-in"

    def published_baseline(self) -> None:
        return None

    def baseline(self, _references: object) -> float:
        return 0.5


class BertStandIn(StandIn):
    def score(self, pairs: Sequence[Pair]) -> dict[Pair, list[float]]:
        return {pair: [share(pair, k) for k in range(3)] for pair in pairs}


class BartStandIn(StandIn):
    def score(self, pairs: Sequence[Pair]) -> dict[Pair, float]:
        return {pair: -8 * share(pair, 3) for pair in pairs}


def share(pair: Pair, k: int) -> float:
    return crc32(f"{pair}{k}".encode()) / 2**32


@contextmanager
def stand_in_scorers() -> Iterator[None]:
    """BERTScore and BARTScore are stand-ins within the block."""
    from abo_vqa.evaluation import bartscore, bertscore

    with (
        mock.patch.object(bertscore, "BertScore", BertStandIn),
        mock.patch.object(bartscore, "BartScore", BartStandIn),
    ):
        yield
