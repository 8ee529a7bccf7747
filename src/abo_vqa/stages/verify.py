"""Stage `verify`: a second opinion on the generated answers → data/vqa.csv."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from abo_vqa.annotate.verification.agreement import (
    agreements,
    mean_agreement,
    refuse_own_columns,
    with_opinions,
)
from abo_vqa.annotate.verification.counts import verification_summary, verifier_counts
from abo_vqa.annotate.verification.effects import earlier_sets, effects, filtered_sets
from abo_vqa.annotate.verification.filters import kept_rows
from abo_vqa.annotate.verification.opinions import Opinion, ask_verifiers, blind_accuracy
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import write_results
from abo_vqa.core.locks import discard
from abo_vqa.core.nested import numeric_metrics
from abo_vqa.core.paths import GENERATED, REJECTS, VERIFICATION, VQA
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.core.verify_config import BLIND_VERIFIER
from abo_vqa.evaluation.aliases import alias_matcher
from abo_vqa.evaluation.wordnet import ensure_wordnet


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write data/vqa.csv and data/verification.json.

    Args:
        config: the settings.

    Raises:
        UserError: A verifier can't answer, a column is in the way, or the filters leave no pair.
        RetryLaterError: A service can't answer now; the other verifiers' answers are kept.
    """
    table = read_table(GENERATED, ["image_path", "question", "answer"])
    if not config.verify.models:
        return _write(table, {"pairs": len(table), "kept": len(table)}, {})
    ensure_wordnet()  # before any long work, as are the other checks
    rejects = read_table(REJECTS, ["image_path", "question", "answer", "reason"])
    refuse_own_columns(table, config.verify.models)
    opinions = ask_verifiers(config.verify.models, config, table)
    verified, record = _judge(config, table, rejects, opinions)
    if verified.empty:
        raise UserError(
            f"verify: none of the {len(table):,} pairs is left. Lower verify.min_agreement "
            f"({config.verify.min_agreement}) or raise verify.blind_share "
            f"({config.verify.blind_share})."
        )
    return _write(verified, record, opinions)


def _judge(
    config: Config, table: pd.DataFrame, rejects: pd.DataFrame, opinions: Mapping[str, Opinion]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the pairs that are kept, with opinions, and data/verification.json."""
    matches = alias_matcher(config.evaluate.aliases)
    by_verifier = agreements(table, opinions, matches)
    shares = mean_agreement(by_verifier)
    kept = kept_rows(table, shares, by_verifier, config.verify, config.seed)
    sets = earlier_sets(table, rejects) | filtered_sets(
        table, shares, by_verifier, kept, config.verify, config.seed
    )
    measure = partial(blind_accuracy, config, matches) if BLIND_VERIFIER in opinions else None
    record = {
        "pairs": len(table),
        "kept": int(kept.sum()),
        "verifiers": verifier_counts(by_verifier),
        "filters": effects(sets, measure),
    }
    return with_opinions(table, opinions, shares)[kept], record


def _write(
    verified: pd.DataFrame, record: dict[str, Any], opinions: Mapping[str, Opinion]
) -> Summary:
    write_results(record, VERIFICATION)
    write_table(verified, VQA)
    return Summary(
        message=verification_summary(record),
        metrics=numeric_metrics(record),
        datasets={"verified": VQA},
        artifacts=(VERIFICATION,),
        cleanup=partial(_discard_all, opinions),
    )


def _discard_all(opinions: Mapping[str, Opinion]) -> None:
    for opinion in opinions.values():
        if opinion.folder:
            discard(opinion.folder)


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    print(execute("verify", run, load_config()))
    return 0
