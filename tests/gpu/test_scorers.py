"""BERTScore and BARTScore on a card are the CPU's."""

import pytest

from abo_vqa.evaluation.bartscore import BartScore
from abo_vqa.evaluation.bertscore import BertScore
from tests.support.scorers import PAIRS, WORDS

MORE = [*PAIRS, ("", "red"), ("red", ""), ("", "")]


def test_bertscore(roberta, gpu) -> None:
    ours, theirs = BertScore(roberta, device="cuda:0"), BertScore(roberta)
    found, expected = ours.score(MORE), theirs.score(MORE)
    assert found.keys() == expected.keys()
    for pair in MORE:
        assert found[pair] == pytest.approx(expected[pair], abs=2e-6)
    assert ours.baseline(WORDS) == pytest.approx(theirs.baseline(WORDS), abs=2e-6)
    assert gpu.cards[0].peak > 0


def test_bartscore(bart, gpu) -> None:
    ours, theirs = BartScore(bart, device="cuda:0"), BartScore(bart)
    found, expected = ours.score(MORE), theirs.score(MORE)
    assert found == pytest.approx(expected, rel=2e-6)
    assert gpu.cards[0].peak > 0
