"""What each baseline's answers depend on, in a file each: data/inputs/<name>.json.

DVC compares a stage's dependencies whole: with the profile's models among those of every baseline,
another prompt for one would ask them all again, and a new split the zero-shot models, which never
see it. Here each file says what concerns its own model. Batch sizes and the device aren't in it.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.errors import UserError
from abo_vqa.io import file_md5, fingerprint, write_json
from abo_vqa.models import FAMILIES, checkpoint_of, meant
from abo_vqa.predict import EMBEDDINGS, TRAIN, candidates_for
from abo_vqa.stage import Log, Summary, execute, no_log

if TYPE_CHECKING:
    from abo_vqa.config import Config

FOLDER = Path("data/inputs")
BLIND = "blind"


def inputs_of(name: str, config: Config) -> dict[str, Any]:
    """What a baseline's answers to given rows depend on.

    Raises:
        UserError: no such baseline, or the profile names no weights for it.
    """
    from abo_vqa.models.loading import identity

    if name == BLIND:
        return {"fitted_on": file_md5(TRAIN)}
    if name not in FAMILIES:
        raise UserError(f"baselines.models: no model is called {name!r}. {meant(name, [BLIND])}")
    checkpoint = checkpoint_of(name, config)
    found: dict[str, Any] = {
        "settings": checkpoint.determining(),
        "weights": fingerprint(identity(checkpoint)),
        "dtype": config.compute.dtype,
    }
    candidates = candidates_for(name, config)
    if candidates is not None:
        found["candidates"] = fingerprint(candidates)
    if name == "blip":
        # meta.json holds a digest of the vectors, which are too large to be read for one.
        files = [EMBEDDINGS / name for name in ("meta.json", "paths.csv")]
        found["vision"] = [file_md5(file) for file in files if file.is_file()]
    return found


def run(config: Config, log: Log = no_log) -> Summary:
    """Write data/inputs/<name>.json for every one of baselines.models."""
    found = {name: inputs_of(name, config) for name in config.baselines.models}
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, inputs in found.items():
        write_json(inputs, FOLDER / f"{name}.json")
    return Summary(f"what {len(found)} baselines depend on → {FOLDER}")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The stage takes none."""


def command(args: argparse.Namespace) -> int:
    return execute("inputs", run)
