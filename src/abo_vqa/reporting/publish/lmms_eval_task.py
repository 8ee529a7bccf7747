"""The functions of the lmms-eval task; exported with the source of `data.normalise` in front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from abo_vqa.data.normalise import same_answer

DATA_FILES = {
    split: str(Path(__file__).parent / "data" / f"{split}-*.parquet") for split in ("train", "test")
}
"""A split → its files beside this one: the harness may be started anywhere."""


def doc_to_visual(doc: Mapping[str, Any]) -> list[Any]:
    """Return the row's image, as a model is shown it."""
    return [doc["image"].convert("RGB")]


def doc_to_text(
    doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, str] | None = None
) -> str:
    """Return the question between the prompts of the task's settings."""
    prompts = lmms_eval_specific_kwargs or {}
    question: str = doc["question"]
    return prompts.get("pre_prompt", "") + question + prompts.get("post_prompt", "")


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return whether the first reply is the answer, in their normal forms, and of which image.

    From the image's path the harness knows which rows aren't independent of each other.
    """
    score = float(same_answer(results[0], doc["answer"]))
    return {"accuracy": {"score": score, "image_path": doc["image_path"]}}


def mean_score(results: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of right replies."""
    return float(sum(result["score"] for result in results) / max(1, len(results)))
