"""Annotation by a model, paid or local: the journals, the tasks, and what is asked of whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.annotate.explain import describe_empty_replies
from abo_vqa.annotate.journals import (
    journal_folder,
    journal_settings,
    load_replies,
    request_limit,
)
from abo_vqa.annotate.paid_run import request_all
from abo_vqa.annotate.progress import Progress, ProgressReporter
from abo_vqa.annotate.prompt import settings_record
from abo_vqa.annotate.quality_filter import QualityFilter
from abo_vqa.annotate.sharding import ShardSpec, in_shard
from abo_vqa.annotate.tasks import Task, make_tasks
from abo_vqa.core.local_annotator import LOCAL
from abo_vqa.core.log import get_logger
from abo_vqa.core.summary import Log
from abo_vqa.data.archive import Archive, open_archive
from abo_vqa.data.pairs import Product
from abo_vqa.remote.budget import total_cost, total_usage
from abo_vqa.remote.history import own_history
from abo_vqa.remote.journal import (
    DROPPED,
    REOPENED,
    AnnotationJournal,
    JournalEntry,
    timestamp,
)

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.core.service_config import GenerateConfig

logger = get_logger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """What a user asks of a single run.

    Attributes:
        retry_days: use keys again whose daily quota was reported as spent.
        retry_refused: ask again about images that were refused, failed, or left out by choice.
        drop_failing: leave out for good what is refused or gets no pairs, however many fail alike.
    """

    retry_days: bool = False
    retry_refused: bool = False
    drop_failing: bool = False


@dataclass(frozen=True)
class AnnotationRun:
    """The result of a run.

    Attributes:
        tasks: the images, with their pairs.
        journal: the journal's path.
        cost: USD spent so far on all journals: earlier runs, and shards taken over, included. 0 if
            no price is known.
        tokens: tokens paid for with them, by the metric's name.
    """

    tasks: list[Task]
    journal: Path
    cost: float
    tokens: Mapping[str, float]


def annotations_folder(settings: GenerateConfig) -> Path:
    """Return the folder of the journals with a paid model's replies under these settings."""
    return journal_folder(settings_record(settings))


def _journal_name(shard: ShardSpec | None) -> str:
    return f"shard-{shard[0]}-of-{shard[1]}.jsonl" if shard else "main.jsonl"


def annotate(
    config: Config,
    products: Sequence[Product],
    quality_filter: QualityFilter,
    log_metrics: Log,
    shard: ShardSpec | None = None,
    options: RunOptions = RunOptions(),
) -> AnnotationRun:
    """Ask for whatever the journals don't hold yet.

    Args:
        config: the run's configuration.
        products: the balanced table's rows.
        quality_filter: judges pairs.
        log_metrics: takes metrics during the run.
        shard: which part of the images, or None for all.
        options: what the user asks of this run.

    Raises:
        RetryLaterError: see `request_all`; everything answered so far is saved.
        UserError: see `request_all` and `LocalRun`.
    """
    settings, record = config.generate, journal_settings(config)
    folder = journal_folder(record)
    path = folder / _journal_name(shard)
    with AnnotationJournal(path, record, shard, request_limit(config)) as journal:
        if journal.torn:
            logger.warning(f"{path.name}: cut off a line that a crash left incomplete")
        selected = [product for product in products if in_shard(product["image_path"], shard)]
        entries = load_replies(config)
        tasks = make_tasks(selected, entries, quality_filter, config)
        if options.retry_refused:
            _reopen(tasks, journal)
            tasks = make_tasks(selected, load_replies(config), quality_filter, config)
        if open_tasks := [task for task in tasks if task.is_open]:
            other_cost = total_cost(entries, settings) - total_cost(own_history(journal), settings)
            paid = settings.annotator != LOCAL
            reporter = ProgressReporter(
                len(open_tasks), log_metrics, settings if paid else None, other_cost
            )
            with open_archive(config.data.raw) as archive, closing(reporter):
                _ask(config, journal, archive, tasks, reporter, options)
            if options.drop_failing:
                _drop_incomplete(open_tasks, journal)
            for line in describe_empty_replies(open_tasks, settings):
                logger.warning(line)
        entries = load_replies(config)
    usage = total_usage(entries)
    tokens = {"input_tokens": float(usage.input), "output_tokens": float(usage.output)}
    return AnnotationRun(tasks, path, total_cost(entries, settings), tokens)


def _ask(
    config: Config,
    journal: AnnotationJournal,
    archive: Archive,
    tasks: Sequence[Task],
    progress: Progress,
    options: RunOptions,
) -> None:
    """Have the model write what is missing: in this process, or behind an API."""
    if config.generate.annotator == LOCAL:
        from abo_vqa.annotate.local.run import write_all  # and torch, which the others spare

        write_all(config, journal, tasks, progress, drop_failing=options.drop_failing)
        return
    request_all(
        config.generate,
        journal,
        archive,
        [task for task in tasks if task.is_open],
        progress,
        retry_days=options.retry_days,
        drop_failing=options.drop_failing,
    )


def _reopen(tasks: Sequence[Task], journal: AnnotationJournal) -> None:
    """Record that earlier refusals and failures don't count."""
    for task in tasks:
        if task.problem.startswith(("refused", DROPPED)) or task.failures:
            entry = JournalEntry(task.image_path, task.key, problem=REOPENED, time=timestamp())
            journal.append(entry)


def _drop_incomplete(tasks: Sequence[Task], journal: AnnotationJournal) -> None:
    """Record that the user dropped images without pairs; otherwise a streak would excuse them."""
    for task in tasks:
        if not task.is_complete and not task.problem.startswith((DROPPED, "unreadable")):
            reason = task.problem or task.empty_reason or "too few good pairs"
            problem = f"{DROPPED}: {reason}"
            journal.append(
                JournalEntry(task.image_path, task.key, problem=problem, time=timestamp())
            )
