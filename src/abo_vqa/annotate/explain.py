"""What a user can do about replies that bring nothing, in terms of the settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from abo_vqa.annotate.gate import REASONS

if TYPE_CHECKING:
    from abo_vqa.annotate.tasks import Task
    from abo_vqa.config import GenerateConfig

_LONGEST_SAMPLE = 200  # characters of a reply that are shown


def _remedy(kind: str, settings: GenerateConfig) -> str:
    """Why a reply of this kind has no pairs, and the settings that may mend it."""
    if "MAX_TOKENS" in kind:
        told = "The model used up its output before it had written a pair"
        if settings.annotator == "gemini-legacy":
            return (
                f"{told}: raise generate.max_output_tokens ({settings.max_output_tokens}). A model "
                "that thinks spends it on thoughts; only generate.annotator: gemini can limit them "
                "(generate.thinking)."
            )
        return (
            f"{told}; a model that thinks spends it on thoughts. Raise "
            f"generate.max_output_tokens ({settings.max_output_tokens}), or set generate.thinking "
            f"({settings.thinking or 'null'}) to minimal or low where the model knows it."
        )
    if "RECITATION" in kind:
        return (
            "The service takes the answers for quotations: change generate.prompt, or raise "
            f"generate.temperature ({settings.temperature:g})."
        )
    if any(word in kind for word in ("SAFETY", "PROHIBITED", "BLOCKLIST", "SPII", "blocked")):
        return (
            "The service's filters hold the answers back: look at generate.safety "
            f"({settings.safety}) and generate.prompt, or choose another generate.model."
        )
    if kind in REASONS:
        return f"In all pairs: {REASONS[kind]}. Look at generate.prompt and generate.model."
    if "STOP" in kind or "unreadable" in kind:
        return (
            "The replies hold no JSON with question and answer: look at generate.prompt and "
            "generate.model."
        )
    return (
        "The service answers with nothing: look at generate.model, or try again later if the "
        "vendor reports trouble."
    )


def in_a_row(
    n: int, kind: str, settings: GenerateConfig, sample: str = "", way_out: str = "--drop-failing"
) -> str:
    """The message that a run ends with whose replies are all without pairs."""
    shown = " ".join(sample.split())[:_LONGEST_SAMPLE]
    return (
        f"{n} pictures in a row got not one good pair: {kind}. {_remedy(kind, settings)}"
        + (f" The last reply: {shown}" if shown else "")
        + " Everything answered is saved, and no picture is given up for this: run it again to go "
        f"on. If it is those pictures' own fault: abo-vqa generate {way_out}."
    )


def losses(tasks: Iterable[Task], settings: GenerateConfig) -> list[str]:
    """A line for each kind of reply without pairs that cost pictures, the most frequent first."""
    kinds = Counter(task.empty for task in tasks if task.empty and not task.pairs)
    return [
        f"{n:,} pictures got no pair: {kind}. {_remedy(kind, settings)}"
        for kind, n in kinds.most_common()
    ]
