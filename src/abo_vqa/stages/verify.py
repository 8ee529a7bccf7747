"""Stage `verify`: what the second opinion says of the generated answers → data/vqa.csv."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import pandas as pd

from abo_vqa.annotate.verification.agreement import agreements, mean_agreement, with_opinions
from abo_vqa.annotate.verification.blind import blind_accuracy
from abo_vqa.annotate.verification.counts import verification_summary, verifier_counts
from abo_vqa.annotate.verification.effects import earlier_sets, effects, filtered_sets
from abo_vqa.annotate.verification.filters import kept_rows
from abo_vqa.annotate.verification.opinion_table import read_opinions
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import write_results
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
        UserError: The opinions are those about another set, or the filters leave no pair.
    """
    verified = read_table(GENERATED, ["image_path", "question", "answer"])
    record: dict[str, Any] = {"pairs": len(verified), "kept": len(verified)}
    if config.verify.models:
        ensure_wordnet()
        verified, record = _judge(config, verified)
    if verified.empty:
        raise UserError(
            f"verify: none of the {record['pairs']:,} pairs is left. Lower verify.min_agreement "
            f"({config.verify.min_agreement}) or raise verify.blind_share "
            f"({config.verify.blind_share})."
        )
    write_results(record, VERIFICATION)
    write_table(verified, VQA)
    return Summary(
        message=verification_summary(record),
        metrics=numeric_metrics(record),
        datasets={"verified": VQA},
        artifacts=(VERIFICATION,),
    )


def _judge(config: Config, table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the pairs that are kept, with opinions, and data/verification.json."""
    answers = read_opinions(config.verify.models, len(table))
    rejects = read_table(REJECTS, ["image_path", "question", "answer", "reason"])
    matches = alias_matcher(config.evaluate.aliases)
    by_verifier = agreements(table, answers, matches)
    shares = mean_agreement(by_verifier)
    kept = kept_rows(table, shares, by_verifier, config.verify, config.seed)
    sets = earlier_sets(table, rejects) | filtered_sets(
        table, shares, by_verifier, kept, config.verify, config.seed
    )
    measure = partial(blind_accuracy, config, matches) if BLIND_VERIFIER in answers else None
    record = {
        "pairs": len(table),
        "kept": int(kept.sum()),
        "verifiers": verifier_counts(by_verifier),
        "filters": effects(sets, measure),
    }
    return with_opinions(table, answers, shares)[kept], record


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    print(execute("verify", run, load_config()))
    return 0
