"""Which test answers can be chosen among train's."""

import pandas as pd
import pytest

from abo_vqa.core.config import RankingConfig
from abo_vqa.evaluation.closed_world import describe_candidates
from abo_vqa.models.candidates import by_frequency

TRAIN = ["red", "Red", "red", "blue", "two", "2", "two", "2", "2", " ", "black lamp"]


def test_answers_by_frequency_in_their_most_frequent_spelling() -> None:
    assert by_frequency(TRAIN) == ("2", "red", "black lamp", "blue")
    assert by_frequency(["", " "]) == ()


@pytest.mark.parametrize(
    ("shortlist", "k", "covered"),
    [("first_token", 1, 4 / 5), ("frequent", 2, 2 / 5), ("frequent", 9, 4 / 5)],
)
def test_coverage(shortlist: str, k: int, covered: float) -> None:
    """Spelling doesn't matter; a shortlist by first token can hold any answer of train."""
    test = pd.DataFrame({"answer": ["two", "The Red", "blue", "Black lamp", "mauve"]})
    train = pd.DataFrame({"answer": TRAIN})
    ranking = RankingConfig(finetuned=True, candidates=k, shortlist=shortlist)
    world = describe_candidates(train, test, ranking)
    assert world["covered"] == pytest.approx(covered)
    assert (world["candidates"], world["k"]) == (4, min(k, 4))
