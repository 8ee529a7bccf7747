"""What a user can do about replies without pairs, or with too few, in terms of the settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from abo_vqa.annotate.tasks import CUT_OFF, Task
from abo_vqa.core.local_annotator import LOCAL
from abo_vqa.data.pairs import REASONS
from abo_vqa.remote.dispatch.stop_reasons import output_limit_advice
from abo_vqa.remote.journal import CUT_OFF_REASON

if TYPE_CHECKING:
    from abo_vqa.core.service_config import GenerateConfig

_TOO_FEW = "fewer pairs than asked for"
_MAX_SAMPLE_LENGTH = 200  # characters of a reply that are shown


def _remedy(kind: str, settings: GenerateConfig) -> str:
    """Return why a reply of this kind has no pairs, and the settings that may help."""
    if settings.annotator == LOCAL:
        return _local_remedy(kind, settings)
    if CUT_OFF_REASON in kind:
        cause = "The model reached its output limit before it had written all pairs."
        if settings.annotator == "gemini-legacy":
            return (
                f"{cause} Raise generate.max_output_tokens ({settings.max_output_tokens}): then "
                "only what was cut off is asked for again. A thinking model spends it on its "
                "reasoning; only generate.annotator: gemini can limit that (generate.thinking)."
            )
        return f"{cause} {output_limit_advice(settings, 'generate.')}"
    if "RECITATION" in kind:
        return (
            "The service considers the replies quotations: change generate.prompt, or raise "
            f"generate.temperature ({settings.temperature:g})."
        )
    if any(
        word in kind for word in ("SAFETY", "REFUSAL", "PROHIBITED", "BLOCKLIST", "SPII", "blocked")
    ):
        safety = f"generate.safety ({settings.safety}) and "
        if settings.annotator == "openai":  # the protocol has no such parameter
            safety = ""
        return (
            f"The service's filters block the replies: check {safety}generate.prompt, or choose "
            "another generate.model."
        )
    if kind in REASONS:
        return f"In all pairs: {REASONS[kind]}. Check generate.prompt and generate.model."
    if "STOP" in kind or "unreadable" in kind:
        return (
            "The replies hold no JSON with question and answer: check generate.prompt and "
            "generate.model."
        )
    return (
        "The replies are empty: check generate.model, or try again later if the vendor reports "
        "an incident."
    )


def _local_remedy(kind: str, settings: GenerateConfig) -> str:
    """Return the same for a model of the profile."""
    model = f"generate.model ({settings.model})"
    if "too long" in kind:
        return too_long_remedy(settings)
    if CUT_OFF_REASON in kind:
        return (
            f"{model} reached generate.max_output_tokens ({settings.max_output_tokens}) before "
            "writing all pairs. If it was reasoning, or on the way to a pair, raise the limit, "
            "with which all images are asked about anew. If it repeated itself, raise "
            "generate.temperature "
            f"({settings.temperature:g}), or choose a larger model."
        )
    if kind in REASONS:
        return f"In all pairs: {REASONS[kind]}. Check generate.prompt, or choose another {model}."
    return (
        f"{model} doesn't write JSON with question and answer: it may be too small to follow "
        "generate.prompt. Simplify the prompt, or choose a larger model of the profile."
    )


def too_long_remedy(settings: GenerateConfig) -> str:
    """Return what to do about a prompt that leaves a local model no room for the reply."""
    return (
        f"Shorten generate.prompt ({settings.prompt}), or lower generate.max_output_tokens "
        f"({settings.max_output_tokens}) or generate.image_size ({settings.image_size})."
    )


def describe_empty_streak(n: int, kind: str, settings: GenerateConfig, sample: str = "") -> str:
    """Return the message of a run that stops because image after image got no pairs.

    Args:
        n: how many images.
        kind: how their replies failed.
        settings: what the advice names.
        sample: the last reply, or "".
    """
    again = "" if settings.annotator == LOCAL else ": run it again to continue"
    excerpt = " ".join(sample.split())[:_MAX_SAMPLE_LENGTH]
    lack = _TOO_FEW if kind == CUT_OFF else "no valid pair"
    return (
        f"{n} images in a row got {lack}: {kind}. {_remedy(kind, settings)}"
        + (f" The last reply: {excerpt}" if excerpt else "")
        + f" All replies are saved and no image was dropped{again}. If the images themselves are "
        "the cause: abo-vqa generate --drop-failing."
    )


def describe_empty_replies(tasks: Iterable[Task], settings: GenerateConfig) -> list[str]:
    """Return a line for each kind of reply that left images without pairs, most frequent first.

    Replies that were cut off count as well: more pairs were on the way.
    """
    kinds: Counter[str] = Counter()
    for task in tasks:
        if task.empty_reason and not task.pairs:
            kinds[task.empty_reason] += 1
        elif task.is_cut_off and not task.is_complete:
            kinds[CUT_OFF] += 1
    return [
        f"{n:,} images got {_TOO_FEW if kind == CUT_OFF else 'no pair'}: {kind}. "
        f"{_remedy(kind, settings)}"
        for kind, n in kinds.most_common()
    ]
