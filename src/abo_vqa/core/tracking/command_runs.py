"""A command beside the pipeline as a run of its own: what it found, with its files."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.tracking import origin
from abo_vqa.core.tracking.descriptions import source_tags
from abo_vqa.core.tracking.failures import warn
from abo_vqa.core.tracking.parents import Origin
from abo_vqa.core.tracking.runs import tracked_run

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.core.summary import Summary


def record_command(name: str, key: str, summary: Summary, config: Config) -> None:
    """Record a command's result, below a parent run that later calls with this key share.

    The result is on disk already: a store that can't be used is a warning.

    Args:
        name: the command's name.
        key: the same for calls that continue each other.
        summary: what it found.
        config: the settings.
    """
    tags = {**origin.owner_tags(), **origin.git_tags()}
    tags |= source_tags(origin.invocation(config.profile).command)
    start = Origin(
        experiment=config.tracking.experiment,
        key=f"{name}:{key}",
        parent_name=f"{name} {key}",
        name=name,
        at=int(time.time() * 1000),
        work=fingerprint([name, key]),
        tags=tags,
        parent_tags=tags,
    )
    try:
        with tracked_run(start) as tracker:
            tracker.finish(summary)
    except UserError as error:
        warn(f"not recorded: {first_line(error)}")
