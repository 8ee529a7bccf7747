"""Sequences to train on: what stands where, and which token attends to which."""

import torch

from abo_vqa.models.causal.prefill import Prompt, common_start, same_start
from abo_vqa.models.causal.sequences import attention_mask, make_sequences

IMAGE = 9
IGNORED = -100


def prompt(*text: int, image: int = 2) -> Prompt:
    """Start token, image tokens, text."""
    ids = [1, *[IMAGE] * image, *text]
    return Prompt(ids, torch.arange(len(ids)), 1 + image)


def test_an_image_stands_once_before_its_questions() -> None:
    """The common start once; then each question's rest and its answer without the end token."""
    sequences = make_sequences([prompt(5, 6, 7), prompt(5, 8)], [[20, 21], [30, 2]], [0, 0], True)
    assert sequences.ids.tolist() == [[1, 9, 9, 5, 6, 7, 20, 8, 30]]
    assert sequences.positions.tolist() == [[0, 1, 2, 3, 4, 5, 6, 4, 5]]
    assert sequences.segments.tolist() == [[0, 0, 0, 0, 1, 1, 1, 2, 2]]
    ignored = [IGNORED] * 5
    assert sequences.labels.tolist() == [[*ignored, 20, 21, 30, 2]]
    assert sequences.is_prompt.tolist() == [[True] * 6 + [False, True, False]]
    assert sequences.shared
    assert sequences.images == (0,)


def test_otherwise_each_question_has_its_own_sequence() -> None:
    sequences = make_sequences([prompt(5, 6, 7), prompt(5, 8)], [[20, 21], [30, 2]], [0, 0], False)
    assert sequences.ids.tolist() == [[1, 9, 9, 5, 6, 7, 20], [1, 9, 9, 5, 8, 30, 20]]
    assert sequences.segments.tolist() == [[1] * 7, [*[1] * 6, -1]]
    assert sequences.labels[1].tolist() == [*[IGNORED] * 4, 30, 2, IGNORED]
    assert not sequences.shared
    assert sequences.images == (0, 0)


def test_segments_attend_to_the_start_and_to_themselves() -> None:
    allowed = attention_mask(torch.tensor([[0, 0, 1, 1, 2, -1]]))[0, 0]
    assert allowed.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


def test_positions_with_rows_and_columns_are_padded_alike() -> None:
    """Qwen's positions have three numbers a token."""
    prompts = [prompt(5, 6), prompt(5, 6, 7, image=1)]
    prompts = [Prompt(p.ids, p.positions.expand(3, -1), p.text_start) for p in prompts]
    sequences = make_sequences(prompts, [[20, 2], [30, 31, 2]], [0, 1], True)
    assert sequences.positions.shape == (3, 2, 7)
    assert sequences.positions[:, 0].tolist() == [[0, 1, 2, 3, 4, 5, 0]] * 3
    assert sequences.positions[:, 1].tolist() == [[0, 1, 2, 3, 4, 5, 6]] * 3


def test_a_question_keeps_a_token_of_its_own() -> None:
    """The answer's first token is predicted by it."""
    assert common_start([prompt(5), prompt(5)]) == 0
    assert common_start([prompt(5, 6), prompt(5, 6, 7)]) == 1


def test_a_question_before_the_image_shares_nothing() -> None:
    before = [Prompt([q, IMAGE, 5, 6], torch.arange(4), 2) for q in (3, 4)]
    assert not same_start(before, [0, 0])
    assert same_start(before, [0, 1])  # two images: each begins as it likes
    assert not same_start([Prompt([3, IMAGE], torch.arange(2), 2)], [0])
