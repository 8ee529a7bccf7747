"""Stage `curate`: listings and images → one row per image that questions can be asked about.

`abo_vqa.data.rules` selects rows, `abo_vqa.data.curation` thins out large product types and reads
the images. Everything that is dropped is counted: images = sum(dropped) + balanced.
"""

from __future__ import annotations

import argparse

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.engine.opening import open_engine
from abo_vqa.core.json_files import write_results
from abo_vqa.core.nested import flatten
from abo_vqa.core.paths import BALANCED, FUNNEL, TYPES
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import write_table
from abo_vqa.data.curation import curate, describe_curation


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write data/balanced.csv, data/types.csv and data/funnel.json.

    Args:
        config: the settings.
    """
    with open_engine(config) as engine:
        result = curate(config.data.raw, config.curate, config.seed, run=engine.map)
    write_table(result.balanced, BALANCED)
    write_table(result.types, TYPES)
    write_results(result.funnel, FUNNEL)
    return Summary(
        message=describe_curation(result, config.curate.language),
        metrics={name: float(value) for name, value in flatten(result.funnel, "/").items()},
        datasets={"balanced": BALANCED},
        artifacts=(FUNNEL, TYPES),
    )


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    print(execute("curate", run, load_config()))
    return 0
