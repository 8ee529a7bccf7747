"""Stage `verify`: what the second opinion says of the generated answers → data/vqa.csv."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from abo_vqa.annotate.draws import DRAWN_COLUMN
from abo_vqa.annotate.verification.agreement import with_opinions
from abo_vqa.annotate.verification.asked import asked_rows
from abo_vqa.annotate.verification.counts import verification_summary
from abo_vqa.annotate.verification.filtered import apply_filters, verification_record
from abo_vqa.annotate.verification.filters import reviewed_rows
from abo_vqa.annotate.verification.opinion_table import read_opinions
from abo_vqa.annotate.verification.reviewed import passing_reviewed, review_counts
from abo_vqa.core.circularity import circularity_warnings
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.json_files import write_results
from abo_vqa.core.nested import numeric_metrics
from abo_vqa.core.paths import GENERATED, REJECTS, REVIEWED, VERIFICATION, VQA
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.evaluation.aliases import alias_matcher
from abo_vqa.evaluation.intervals import clustered_wilson_interval
from abo_vqa.evaluation.wordnet import ensure_wordnet


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write data/vqa.csv and data/verification.json.

    Args:
        config: the settings.

    Raises:
        UserError: The opinions are those about another set, or the filters leave no pair.
    """
    table = read_table(GENERATED, ["image_path", "question", "answer"])
    reviewed = read_table(REVIEWED, ["image_path", "question", "answer", "wrong", DRAWN_COLUMN])
    unreviewed = ~reviewed_rows(table)
    if not config.verify.models:
        passes = np.ones(len(reviewed), np.bool_)
        counts = review_counts(reviewed, passes, table[unreviewed])
        return _write(config, table, {"pairs": len(table), "kept": len(table), **counts})
    ensure_wordnet()
    rejects = read_table(REJECTS, ["image_path", "question", "answer", "reason"])
    asked = asked_rows(table, reviewed)
    answers = read_opinions(config.verify.models, len(asked))
    own = {name: given.head(len(table)) for name, given in answers.items()}
    matches = alias_matcher(config.evaluate.aliases)
    filtered = apply_filters(config, table, own, matches)
    passes = passing_reviewed(
        reviewed, asked, answers, matches, filtered, config.verify, config.seed
    )
    interval = partial(clustered_wilson_interval, confidence=config.evaluate.confidence)
    record = verification_record(config, filtered, rejects, matches, interval) | review_counts(
        reviewed, passes, table[unreviewed & filtered.kept]
    )
    return _write(config, with_opinions(table, own, filtered.shares)[filtered.kept], record)


def _write(config: Config, verified: pd.DataFrame, record: dict[str, Any]) -> Summary:
    write_results(record, VERIFICATION)
    write_table(verified, VQA)
    return Summary(
        message="\n".join([verification_summary(record), *circularity_warnings(config)]),
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
