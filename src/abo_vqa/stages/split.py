"""Stage `split`: a VQA table → train and test that share no group.

`group: image` is the published study's split, row for row and in its order. `near-duplicate` (the
default) also keeps products, identical images and look-alikes on one side, and the product types'
shares alike where the groups allow. `variant` adds products that differ in colour or marketplace.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.engine.opening import open_engine
from abo_vqa.core.json_files import write_results
from abo_vqa.core.nested import flatten
from abo_vqa.core.paths import AUDIT, BALANCED, TEST, TRAIN, VQA
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table, table_columns
from abo_vqa.data import audit
from abo_vqa.data.audit_text import describe_audit, share_warnings
from abo_vqa.data.key_columns import KEY_COLUMNS
from abo_vqa.data.similarity_rule import ComparedTable, configured_rule
from abo_vqa.data.splitting import split_rows, write_sides
from abo_vqa.data.variants import NAME_COLUMNS, add_names


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write data/train.csv, data/test.csv and data/audit.json.

    Args:
        config: the settings.

    Raises:
        UserError: A group is on both sides.
    """
    settings = config.split
    columns = [name for name in table_columns(VQA) if name in (*KEY_COLUMNS, *audit.VQA_COLUMNS)]
    table = read_table(VQA, audit.VQA_COLUMNS, columns=columns)
    added = table[[]]
    if settings.group == "variant":
        table = add_names(table, BALANCED)
        added = table[list(NAME_COLUMNS)]
    with open_engine(config) as engine:
        rule = replace(configured_rule(config), run=engine.map)
        compared = ComparedTable.of([table], rule, audit.VQA_COLUMNS)
        notes = rule.notes(compared.table["image_path"])
        del table  # its texts take most of the memory
        sides = split_rows(
            compared,
            settings.group,
            settings.test_size,
            config.seed,
            rule=rule,
            stratify=settings.stratify,
        )
        report = audit.audit_sides(compared, sides, settings.group)
    write_results(report, AUDIT)  # before leaks are refused: it shows where they are
    audit.refuse_leaks(report, settings.group, rule.options())
    write_sides(VQA, sides, (TRAIN, TEST), added)
    missed = share_warnings(report, settings.group, settings.test_size)
    return Summary(
        message="\n".join([describe_audit(report, settings.group), *missed, *notes]),
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
