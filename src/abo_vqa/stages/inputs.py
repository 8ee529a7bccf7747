"""Stage `inputs`: what each baseline's answers depend on, one file per model.

DVC compares a stage's dependencies whole: if every baseline depended on the profile's models,
another prompt for one would ask them all again, and a new split the zero-shot models, which never
see it. Here each file names what concerns its own model. Batch sizes and the device aren't in it.
"""

from __future__ import annotations

import argparse

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.files import atomic_folder
from abo_vqa.core.json_files import write_json
from abo_vqa.core.paths import INPUTS
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.models.answering.dependencies import inputs_of


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write data/inputs/<name>.json for each of `baselines.models`.

    Args:
        config: the settings.
    """
    with atomic_folder(INPUTS) as folder:
        for name in config.baselines.models:
            write_json(inputs_of(name, config), folder / f"{name}.json")
    return Summary(f"what {len(config.baselines.models)} baselines depend on → {INPUTS}")


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    print(execute("inputs", run, load_config()))
    return 0
