"""What each baseline's answers depend on, in a file each: data/inputs/<name>.json.

DVC compares a stage's dependencies whole: with the profile's models among those of every baseline,
another prompt for one would ask them all again, and a new split the zero-shot models, which never
see it. Here each file says what concerns its own model. Batch sizes and the device aren't in it.
"""

from __future__ import annotations

import argparse
import shutil
from typing import TYPE_CHECKING

from abo_vqa.config import load_config
from abo_vqa.core.json_files import write_json
from abo_vqa.core.paths import INPUTS
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.models.answering.dependencies import inputs_of

if TYPE_CHECKING:
    from abo_vqa.config import Config


def run(config: Config, log: Log = no_log) -> Summary:
    """Write data/inputs/<name>.json for every one of baselines.models."""
    found = {name: inputs_of(name, config) for name in config.baselines.models}
    shutil.rmtree(INPUTS, ignore_errors=True)
    for name, inputs in found.items():
        write_json(inputs, INPUTS / f"{name}.json")
    return Summary(f"what {len(found)} baselines depend on → {INPUTS}")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The stage takes none."""


def command(args: argparse.Namespace) -> int:
    return execute("inputs", run, load_config())
