"""BLIP-2 and LLaVA: answers cut out of what was said, and choices ranked."""

import pytest
import torch

from abo_vqa.models.decoding import extract_answer


@pytest.mark.parametrize("name", ["blip2", "llava"])
def test_rank_is_the_likelihood_of_the_library(load, rows, name: str) -> None:
    """Sum of log-probabilities from the library's own forward, one choice at a time."""
    model = load(name)
    choices = ["black", "round table", "two"]
    ranked = model.rank(rows.images[:5], rows.questions[:5], [choices] * 5)
    for image, question, scores in zip(rows.images, rows.questions, ranked, strict=False):
        prompt = model.checkpoint.prompt.format(question=question)
        start = model.processor(images=image, text=prompt, return_tensors="pt")
        for choice, score in zip(choices, scores, strict=True):
            inputs = model.processor(images=image, text=f"{prompt} {choice}", return_tensors="pt")
            with torch.no_grad():
                logits = model.model(**inputs).logits[0]
            ids = inputs["input_ids"][0]
            first = start["input_ids"].shape[1]
            assert len(ids) > first
            log_p = logits.log_softmax(-1)[first - 1 : -1].gather(1, ids[first:, None]).sum()
            assert score == pytest.approx(float(log_p), rel=1e-4)


def test_last_word_without_punctuation(load, rows) -> None:
    whole, last = load("llava"), load("llava", {"answer": "last_word"})
    assert extract_answer("It is made of Wood.", "last_word") == "Wood"
    assert extract_answer("It is **Red** .\n", "last_word") == "Red"
    assert extract_answer("", "last_word") == extract_answer(" ... ", "last_word") == ""
    assert extract_answer("It is made of Wood.", "whole") == "It is made of Wood."
    for all_of_it, word in zip(
        whole.answer(rows.images, rows.questions),
        last.answer(rows.images, rows.questions),
        strict=True,
    ):
        assert word.text == extract_answer(all_of_it.text, "last_word")
        assert word.confidence == pytest.approx(all_of_it.confidence, rel=1e-6)
