"""Stage `inputs`: what each baseline's answers depend on, one file per model.

DVC compares a stage's dependencies whole: if every baseline depended on the profile's models,
another prompt for one would ask them all again, and a new split the zero-shot models, which never
see it. Here each file names what concerns its own model. Batch sizes and the device aren't in it.
"""

from __future__ import annotations

import argparse

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.files import atomic_folder
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.core.paths import GENERATION, INPUTS
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.models.answering.dependencies import inputs_of
from abo_vqa.models.registry import local_annotator


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write data/inputs/<name>.json for each of `baselines.models`.

    Args:
        config: the settings.
    """
    with atomic_folder(INPUTS) as folder:
        for name in config.baselines.models:
            write_json(inputs_of(name, config), folder / f"{name}.json")
    message = f"what {len(config.baselines.models)} baselines depend on → {INPUTS}"
    return Summary("\n".join(filter(None, [message, _annotator_warning(config)])))


def _annotator_warning(config: Config) -> str:
    """Return that a local annotator isn't the model that wrote the questions any more, or ""."""
    model = local_annotator(config)
    if not model or not GENERATION.is_file() or read_json(GENERATION).get("model") == model:
        return ""
    return (
        f"warning: the questions were written by another generate.model than {model['name']} is "
        "now (weights, dtype or quantize). To have them written again: "
        "dvc repro --single-item --force generate && dvc repro"
    )


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    print(execute("inputs", run, load_config()))
    return 0
