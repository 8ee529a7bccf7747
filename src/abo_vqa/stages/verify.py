"""Stage `verify`: a second opinion on the generated answers → data/vqa.csv."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd

from abo_vqa.annotate.verification.agreement import agreements, mean_agreement, with_opinions
from abo_vqa.annotate.verification.filters import effects, kept_rows
from abo_vqa.annotate.verification.opinions import Opinion, ask_verifier, blind_accuracy
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import write_results
from abo_vqa.core.locks import discard
from abo_vqa.core.nested import leaves
from abo_vqa.core.paths import GENERATED, VERIFICATION, VQA
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table, write_table


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write data/vqa.csv and data/verification.json.

    Args:
        config: the settings.

    Raises:
        UserError: A verifier can't answer, or the filters leave no pair.
    """
    table = read_table(GENERATED, ["image_path", "question", "answer"])
    opinions = {name: ask_verifier(name, config, table) for name in config.verify.models}
    kept, verified, record = _judge(config, table, opinions)
    if not len(verified):
        raise UserError(
            f"verify: none of the {len(table):,} pairs is left. Lower verify.min_agreement "
            f"({config.verify.min_agreement}) or raise verify.blind_share "
            f"({config.verify.blind_share})."
        )
    write_results(record, VERIFICATION)
    write_table(verified, VQA)
    return Summary(
        message=_message(record, len(table), kept),
        metrics={
            "/".join(path).replace(" ", "_"): float(value)
            for path, value in leaves(record)
            if isinstance(value, int | float)
        },
        datasets={"verified": VQA},
        artifacts=(VERIFICATION,),
        cleanup=partial(_discard_all, opinions),
    )


def _judge(
    config: Config, table: pd.DataFrame, opinions: dict[str, Opinion]
) -> tuple[int, pd.DataFrame, dict[str, Any]]:
    """Return how many pairs are kept, the table with opinions, and data/verification.json."""
    if not opinions:
        return len(table), table, {"pairs": len(table), "kept": len(table)}
    by_verifier = agreements(table, opinions)
    shares = mean_agreement(by_verifier)
    mask = kept_rows(table, shares, by_verifier, config.verify, config.seed)
    record = {
        "pairs": len(table),
        "kept": int(mask.sum()),
        "verifiers": {
            name: {
                "agreement": round(float(agrees.mean()), 4) if agrees.notna().any() else None,
                "failed": int(agrees.isna().sum()),
            }
            for name, agrees in by_verifier.items()
        },
        "filters": effects(
            table,
            shares,
            by_verifier,
            mask,
            config.verify,
            config.seed,
            partial(blind_accuracy, config),
        ),
    }
    return int(mask.sum()), with_opinions(table, opinions, shares)[mask], record


def _message(record: dict[str, Any], pairs: int, kept: int) -> str:
    """Return the summary's text."""
    parts = []
    for name, numbers in record.get("verifiers", {}).items():
        agreement = numbers["agreement"]
        text = "no answers" if agreement is None else f"agrees with {agreement:.1%}"
        failed = f" ({numbers['failed']:,} not answered)" if numbers["failed"] else ""
        parts.append(f"{name} {text}{failed}")
    who = "; ".join(parts) or "nobody was asked for a second opinion"
    return f"{kept:,} of {pairs:,} pairs → {VQA}: {who}"


def _discard_all(opinions: dict[str, Opinion]) -> None:
    discards: list[Callable[[], None]] = [
        partial(discard, opinion.folder) for opinion in opinions.values() if opinion.folder
    ]
    for remove in discards:
        remove()


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    print(execute("verify", run, load_config()))
    return 0
