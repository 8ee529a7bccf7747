"""Stage `opinions`: the verifiers' answers to the generated questions → data/opinions.csv.

They take hours where large models give them; the filters of the stage `verify` take seconds.
"""

from __future__ import annotations

import argparse
from functools import partial

from abo_vqa.annotate.verification.agreement import refuse_own_columns
from abo_vqa.annotate.verification.asked import asked_rows
from abo_vqa.annotate.verification.opinion_table import opinion_table
from abo_vqa.annotate.verification.opinions import ask_verifiers, discard_journals
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.paths import GENERATED, OPINIONS, REVIEWED
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.core.verify_config import BLIND_VERIFIER
from abo_vqa.models.answering.counts import count_answers, describe_long_answers
from abo_vqa.models.endpoint.spending import DRY_RUN, estimate_questions, spending_of
from abo_vqa.models.registry import checkpoint_of


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write data/opinions.csv.

    Args:
        config: the settings.

    Raises:
        UserError: A verifier can't answer, or a column of the table is in the way.
        RetryLaterError: A service can't answer now; the other verifiers' answers are kept.
    """
    table = read_table(GENERATED, ["image_path", "question", "answer"])
    reviewed = read_table(REVIEWED, ["image_path", "question"])
    names = config.verify.models
    refuse_own_columns(table, names)
    opinions = ask_verifiers(names, config, asked_rows(table, reviewed))
    answers = {name: opinion.answers for name, opinion in opinions.items()}
    write_table(opinion_table(answers), OPINIONS)
    counts: dict[str, dict[str, float]] = {
        name: {**count_answers(own)} for name, own in answers.items()
    }
    lines = [f"answers of {', '.join(names) or 'nobody'} to {len(table):,} questions → {OPINIONS}"]
    for name, own in answers.items():
        if name != BLIND_VERIFIER:
            lines.append(describe_long_answers(name, config, own["prediction"], table["answer"]))
            spent, cost = spending_of(name, config)
            lines.append(spent)
            counts[name] |= cost
    return Summary(
        "\n".join(filter(None, lines)),
        metrics={f"{name}/{kind}": n for name, own in counts.items() for kind, n in own.items()},
        datasets={"generated": GENERATED},
        cleanup=partial(discard_journals, opinions),
    )


def _estimate(config: Config) -> str:
    """Return what is still to be asked of verifiers behind an API, and what it takes."""
    table = read_table(GENERATED, ["image_path", "question"])
    rows = asked_rows(table, read_table(REVIEWED, ["image_path", "question"]))
    names = [name for name in config.verify.models if name != BLIND_VERIFIER]
    paid = [name for name in names if checkpoint_of(name, config).endpoint]
    parts = [f"{name}\n{estimate_questions(name, config, rows)}" for name in paid]
    return "\n\n".join(parts) or "No model in verify.models is behind an API: nothing is paid for."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option.

    Args:
        parser: the command's parser.
    """
    parser.add_argument("--dry-run", action="store_true", help=DRY_RUN)


def command(args: argparse.Namespace) -> int:
    """Run the stage.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    config = load_config()
    print(_estimate(config) if args.dry_run else execute("opinions", run, config))
    return 0
