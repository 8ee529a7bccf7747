"""What is left for a local model to do (`abo-vqa generate --dry-run`)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from abo_vqa.annotate.journals import (
    journal_folder,
    journal_settings,
    load_replies,
    replies_per_image,
)
from abo_vqa.annotate.local.requests import require_room
from abo_vqa.annotate.quality_filter import QualityFilter
from abo_vqa.annotate.tasks import make_tasks
from abo_vqa.data.pairs import Product
from abo_vqa.models.registry import checkpoint_of
from abo_vqa.remote.journal import JournalEntry

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

_SAME_BATCH_S = 0.1  # replies of a batch are recorded within this time
_MIN_GAPS = 3  # between batches, before their median says how long one takes


def describe_remaining(
    config: Config, products: Sequence[Product], quality_filter: QualityFilter
) -> str:
    """Return a table of the images and replies that are left, and how long they may take.

    Args:
        config: the run's configuration.
        products: the balanced table's rows, or a shard's.
        quality_filter: judges pairs.

    Raises:
        UserError: the model has no room for a prompt and a reply, or can't be read.
    """
    name = config.generate.model
    checkpoint = checkpoint_of(name, config)
    folder = journal_folder(journal_settings(config))
    entries = load_replies(config)
    tasks = make_tasks(products, entries, quality_filter, config)
    require_room(config, tasks)
    left = sum(task.is_open for task in tasks)
    per_image = replies_per_image(entries)
    seconds = _seconds_per_reply(entries)
    time = "unknown until some batches are written"
    if seconds is not None:
        time = f"{left * per_image * seconds / 3600:.2f} hours, at the median pace so far"
    return "\n".join(
        [
            f"images left        {left:,} of {len(tasks):,}",
            f"replies            {left * per_image:,.0f} ({per_image:.2f} per image)",
            f"model              {name}: {checkpoint.path}, {checkpoint.batch_size} images at a "
            f"time on compute.device {config.compute.device}",
            "price              nothing: it runs in this process",
            f"time               {time}",
            f"replies are in     {folder}",
        ]
    )


def _seconds_per_reply(entries: Sequence[JournalEntry]) -> float | None:
    """Return how long a reply takes; pauses between runs don't matter. None: not known yet."""
    times = sorted(entry.time for entry in entries)
    gaps = [after - before for before, after in pairwise(times) if after - before > _SAME_BATCH_S]
    if len(gaps) < _MIN_GAPS:
        return None
    return statistics.median(gaps) * (len(gaps) + 1) / len(times)
