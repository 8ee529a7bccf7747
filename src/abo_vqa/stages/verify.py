"""Stage `verify`: what the second opinion says of the generated answers → data/vqa.csv."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.annotate.verification.agreement import agreements, mean_agreement, with_opinions
from abo_vqa.annotate.verification.asked import asked_rows
from abo_vqa.annotate.verification.blind_accuracy import (
    ALL_ROWS,
    SAMPLED_SHARE,
    blind_accuracy,
)
from abo_vqa.annotate.verification.counts import (
    unanswered_count,
    verification_summary,
    verifier_counts,
)
from abo_vqa.annotate.verification.effects import earlier_sets, effects, filtered_sets
from abo_vqa.annotate.verification.filters import kept_rows
from abo_vqa.annotate.verification.opinion_table import read_opinions
from abo_vqa.annotate.verification.reviewed import (
    FilteredTable,
    passing_reviewed,
    review_counts,
)
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import write_results
from abo_vqa.core.nested import numeric_metrics
from abo_vqa.core.paths import GENERATED, REJECTS, REVIEWED, VERIFICATION, VQA
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.core.verify_config import BLIND_VERIFIER
from abo_vqa.evaluation.aliases import alias_matcher
from abo_vqa.evaluation.wordnet import ensure_wordnet

if TYPE_CHECKING:
    from abo_vqa.annotate.verification.blind import AnswerMatcher


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write data/vqa.csv and data/verification.json.

    Args:
        config: the settings.

    Raises:
        UserError: The opinions are those about another set, or the filters leave no pair.
    """
    table = read_table(GENERATED, ["image_path", "question", "answer"])
    reviewed = read_table(REVIEWED, ["image_path", "question", "answer", "wrong"])
    if not config.verify.models:
        counts = review_counts(reviewed, np.ones(len(reviewed), np.bool_))
        return _write(table, {"pairs": len(table), "kept": len(table), **counts})
    ensure_wordnet()
    asked = asked_rows(table, reviewed)
    answers = read_opinions(config.verify.models, len(asked))
    own = {name: given.head(len(table)) for name, given in answers.items()}
    matches = alias_matcher(config.evaluate.aliases)
    filtered = _filter(config, table, own, matches)
    passes = passing_reviewed(
        reviewed, asked, answers, matches, filtered, config.verify, config.seed
    )
    record = _record(config, filtered, matches) | review_counts(reviewed, passes)
    return _write(with_opinions(table, own, filtered.shares)[filtered.kept], record)


def _filter(
    config: Config,
    table: pd.DataFrame,
    answers: Mapping[str, pd.DataFrame],
    matches: AnswerMatcher,
) -> FilteredTable:
    """Return which pairs are kept.

    Raises:
        UserError: none is.
    """
    by_verifier = agreements(table, answers, matches)
    shares = mean_agreement(by_verifier)
    kept = kept_rows(table, shares, by_verifier, config.verify, config.seed)
    if not kept.any():
        raise UserError(
            f"verify: none of the {len(table):,} pairs is left. Lower verify.min_agreement "
            f"({config.verify.min_agreement}) or raise verify.blind_share "
            f"({config.verify.blind_share})."
        )
    return FilteredTable(table, by_verifier, shares, kept)


def _record(config: Config, filtered: FilteredTable, matches: AnswerMatcher) -> dict[str, Any]:
    """Return the content of data/verification.json but for the reviews."""
    rejects = read_table(REJECTS, ["image_path", "question", "answer", "reason"])
    table, by_verifier = filtered.table, filtered.by_verifier
    sets = earlier_sets(table, rejects) | filtered_sets(
        table, filtered.shares, by_verifier, filtered.kept, config.verify, config.seed
    )
    measure, known = None, {}
    if BLIND_VERIFIER in by_verifier:
        measure = partial(blind_accuracy, config, matches)
        known["none"] = round(float(by_verifier[BLIND_VERIFIER].mean()), 4)
    largest = max(map(len, sets.values()))
    return {
        "pairs": len(table),
        "kept": int(filtered.kept.sum()),
        **unanswered_count(filtered.shares[filtered.kept], by_verifier),
        "verifiers": verifier_counts(by_verifier),
        "filters": effects(sets, measure, known),
        **({"blind_sample": SAMPLED_SHARE} if measure and largest > ALL_ROWS else {}),
    }


def _write(verified: pd.DataFrame, record: dict[str, Any]) -> Summary:
    write_results(record, VERIFICATION)
    write_table(verified, VQA)
    return Summary(
        message=verification_summary(record),
        metrics=numeric_metrics(record),
        datasets={"verified": VQA},
        artifacts=(VERIFICATION,),
    )


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    print(execute("verify", run, load_config()))
    return 0
