"""`abo-vqa show`: the results of the last run on one screen, and what to do next."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import EVALUATION, METRICS, REPORT, VERIFICATION
from abo_vqa.core.scratch import project_root
from abo_vqa.reporting.ceiling import ceiling_caption, ceiling_sentence
from abo_vqa.reporting.circularity import circularity_notes, marked_models
from abo_vqa.reporting.formatting import mark_models, name_finetuned
from abo_vqa.reporting.results_table import results_table

_WIDTH = 100  # columns
_ACTIVATION = "source .venv/bin/activate   so that this shell finds dvc and abo-vqa"
_NEXT_STEPS = (
    "make ui                     browse the runs in MLflow",
    "dvc exp run -S lora.r=8     change a setting; `make experiments` compares",
    "docs/real-abo.md            the real archives and checkpoints",
)


def _read(path: Path) -> Any:
    """Return the content of a result file.

    Raises:
        UserError: it isn't there yet, or is broken.
    """
    if not path.is_file():
        raise UserError(
            f"no results to show: {path.absolute()} isn't there. In the repository, `make repro` "
            "makes them (so does `dvc repro`)."
        )
    return read_json(path)


def _footnotes(models: Iterable[str]) -> list[str]:
    """Mark the models that had a part in making the test rows; return what must be known."""
    with suppress(UserError):  # settings that can't be read don't keep results from being shown
        config = load_config()
        name_finetuned(config.lora.model)
        verification = read_json(VERIFICATION) if VERIFICATION.is_file() else {}
        parts = marked_models(config, models, verification)
        mark_models(parts)
        notice = [config.data.notice] if config.data.notice else []
        return [*notice, *circularity_notes(parts, verification)]
    mark_models(())
    return []


def _screen(
    metrics: Mapping[str, Mapping[str, float]],
    evaluation: Mapping[str, Any],
    footnotes: Sequence[str],
) -> list[str]:
    """Return the lines of the screen: results, the report's address, what to do next."""
    rows = next(iter(metrics.values()))["n"]
    lines = [
        *results_table(metrics, evaluation, markdown=False),
        f"{rows:,} test questions; gain: over the best blind baseline, in points",
        f"interval: {evaluation['signature']['intervals']}",
        *_ceiling(evaluation.get("ceiling")),
        *(line for text in footnotes for line in textwrap.wrap(text, _WIDTH)),
    ]
    if REPORT.is_file():
        lines += ["", f"report: {REPORT}", f"        {REPORT.resolve().as_uri()}"]
    return [
        *lines,
        "",
        *(f"{'' if i else 'next:':8}{step}" for i, step in enumerate(_next_steps())),
    ]


def _next_steps() -> list[str]:
    """Return what to do next, first of all to activate the environment where that isn't done.

    PATH doesn't tell: make puts the environment's programs on its own, not on the shell's.
    """
    inactive = "VIRTUAL_ENV" not in os.environ and Path(".venv/bin/activate").is_file()
    return [*([_ACTIVATION] if inactive else []), *_NEXT_STEPS]


def _ceiling(ceiling: Mapping[str, Any] | None) -> list[str]:
    """Return how much can be right at most; nothing if nobody has reviewed the answers."""
    return textwrap.wrap(ceiling_sentence(ceiling), _WIDTH) if ceiling else []


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument(
        "--markdown", action="store_true", help="only the table, as Markdown (README.md has it)"
    )


def command(args: argparse.Namespace) -> int:
    """Print the results and the addresses of the pages.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    os.chdir(project_root())
    metrics, evaluation = _read(METRICS), _read(EVALUATION)
    footnotes = _footnotes(metrics)
    if args.markdown:
        caption = ceiling_caption(evaluation.get("ceiling"))
        lines = [
            *results_table(metrics, evaluation, markdown=True),
            *(["", caption] if caption else []),
            *(line for text in footnotes for line in ("", text)),
        ]
    else:
        lines = _screen(metrics, evaluation, footnotes)
    print("\n".join(lines))
    return 0
