"""Model card and data card, from the numbers of the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.pages import environment
from abo_vqa.reporting.words import count, percent

if TYPE_CHECKING:
    from abo_vqa.config import GenerateConfig

_TOP = 10


_WRITERS = {
    "offline": "a program that reads catalogue attributes",
    "gemini": "a vision-language model ({model})",
    "gemini-legacy": "a vision-language model ({model})",
    "file": "the table {file}",
}


def writer(settings: GenerateConfig) -> str:
    """What wrote the questions. Of a table, what others may know: not where it lies on a disk."""
    file = settings.file and shown_path(settings.file)
    return _WRITERS[settings.annotator].format(model=settings.model, file=file)


def shown_path(path: Path) -> str:
    """A path as a card shows it: one outside the checkout by its name alone."""
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()


def kind_of_answers(answers: Iterable[str]) -> str:
    """ "one-word answers", or how many aren't."""
    longer = sum(len(answer.split()) > 1 for answer in answers)
    return f"short answers, {count(longer)} of several words," if longer else "one-word answers"


def _describe(results: Results) -> dict[str, Any]:
    """What the VQA set holds: sizes of both sides, kinds of questions, frequent answers."""
    both = pd.concat([results.train, results.test], ignore_index=True)
    sides = [
        ["questions", *(count(len(part)) for part in (results.train, results.test))],
        *([f"different {name}", *(count(part[column].nunique())
                                  for part in (results.train, results.test))]
          for name, column in (("pictures", "image_path"), ("questions", "question"),
                               ("answers", "answer"))),
    ]  # fmt: skip
    answers = _frequent(both["answer"])[:_TOP]
    kinds = both["question_kind"] if "question_kind" in both else pd.Series(dtype=object)
    return {
        "images": both["image_path"].nunique(),
        "product_types": results.balanced["product_type"].nunique(),
        "sides": sides,
        "kinds": _frequent(kinds[kinds != ""]),
        "answers": [(name or "(empty)", n) for name, n in answers],
        "top_ten": sum(n for _, n in answers) / max(1, len(both)),
        "writer": writer(results.config.generate),
    }


def _model_facts(results: Results) -> list[tuple[str, Any]]:
    """Base, adapter and training of the fine-tuned model, as configured."""
    config = results.config
    base, lora = config.models.blip, config.lora
    revision = f", revision {base.revision}" if base.revision else ""
    return [
        ("base", f"`{base.path}`{revision}"),
        ("adapter", f"LoRA r = {lora.r}, alpha = {lora.alpha:g}, dropout {lora.dropout:g}, on "
                    f"{', '.join(lora.targets)}"),
        ("training", f"AdamW, learning rate {lora.lr:g}, {lora.schedule}; batch "
                     f"{lora.batch_size * lora.accumulate}, {lora.epochs} epochs"),
        ("train rows", f"{count(len(results.train))}, {percent(lora.validation, 0)} of them for "
                       "validation"),
        ("split by", config.split.group),
        ("seed", str(config.seed)),
    ]  # fmt: skip


def _frequent(values: pd.Series) -> list[tuple[str, int]]:
    """Values by frequency, equal ones alphabetically."""
    counts = values.value_counts()
    return sorted(((str(k), int(n)) for k, n in counts.items()), key=lambda item: (-item[1], item))


def render_cards(results: Results, values: Mapping[str, Any]) -> dict[str, str]:
    """File name → Markdown.

    Args:
        values: the report's context (`pages.context`).
    """
    templates = environment()
    return {
        "model.md": templates.get_template("model_card.md.j2").render(
            **values, model=_model_facts(results)
        ),
        "data.md": templates.get_template("data_card.md.j2").render(
            **values, data=_describe(results)
        ),
    }
