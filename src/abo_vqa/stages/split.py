"""Stage `split`: a VQA table → train and test that share no group.

`group: image` is the published study's split, row for row and in its order. `near-duplicate` (the
default) also keeps products, identical images and look-alikes on one side, and the product types'
shares alike where the groups allow. `variant` adds products that differ in colour or marketplace.
"""

from __future__ import annotations

import argparse

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.json_files import write_results
from abo_vqa.core.nested import flatten
from abo_vqa.core.paths import AUDIT, BALANCED, TEST, TRAIN, VQA
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.data import audit
from abo_vqa.data.audit_text import describe_audit, share_warnings
from abo_vqa.data.similarity_rule import configured_rule
from abo_vqa.data.splitting import split_rows, take_sides
from abo_vqa.data.variants import add_names


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write data/train.csv, data/test.csv and data/audit.json.

    Args:
        config: the settings.

    Raises:
        UserError: A group is on both sides.
    """
    settings = config.split
    table = read_table(VQA, audit.VQA_COLUMNS)
    if settings.group == "variant":
        table = add_names(table, BALANCED)
    rule = configured_rule(config)
    sides = split_rows(
        table,
        settings.group,
        settings.test_size,
        config.seed,
        rule=rule,
        stratify=settings.stratify,
    )
    train, test = take_sides(table, sides)
    report = audit.audit_split(train, test, settings.group, rule)
    write_results(report, AUDIT)  # before leaks are refused: it shows where they are
    audit.refuse_leaks(report, settings.group, rule.options())
    write_table(train, TRAIN)
    write_table(test, TEST)
    missed = share_warnings(report, settings.group, settings.test_size)
    return Summary(
        message="\n".join([describe_audit(report, settings.group), *missed]),
        metrics={name: float(value) for name, value in flatten(report, "/").items()},
        datasets={"training": TRAIN, "testing": TEST},
        artifacts=(AUDIT,),
    )


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    print(execute("split", run, load_config()))
    return 0
