"""Annotation by a model, paid or local: journal, ledger, keys and images put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.annotate.batch_mode.collection import BatchCollector
from abo_vqa.annotate.batch_mode.control import BatchControl
from abo_vqa.annotate.batch_mode.pilot import pilot_tasks
from abo_vqa.annotate.batch_mode.run import BatchRun
from abo_vqa.annotate.batch_mode.submission import BatchSubmitter
from abo_vqa.annotate.control import ControlRequest
from abo_vqa.annotate.explain import describe_empty_replies
from abo_vqa.annotate.journals import journal_folder, journal_settings
from abo_vqa.annotate.online.failure_policy import FailurePolicy
from abo_vqa.annotate.online.image_failures import ImageFailures
from abo_vqa.annotate.online.scheduler import Scheduler
from abo_vqa.annotate.online.sender import RequestSender
from abo_vqa.annotate.online.task_queue import TaskQueue
from abo_vqa.annotate.progress import Progress, ProgressReporter
from abo_vqa.annotate.prompt import instruction, settings_record
from abo_vqa.annotate.quality_filter import QualityFilter
from abo_vqa.annotate.sharding import ShardSpec, in_shard
from abo_vqa.annotate.tasks import Task, make_tasks
from abo_vqa.core.local_annotator import LOCAL
from abo_vqa.core.log import get_logger
from abo_vqa.core.scratch import scratch
from abo_vqa.core.summary import Log
from abo_vqa.data.archive import Archive, open_archive
from abo_vqa.data.pairs import Product
from abo_vqa.remote.batch_jobs import BatchJobFile
from abo_vqa.remote.budget import Budget, total_cost
from abo_vqa.remote.clients import batch_clients, open_clients
from abo_vqa.remote.history import load_history
from abo_vqa.remote.journal import (
    DROPPED,
    REOPENED,
    AnnotationJournal,
    JournalEntry,
    read_journal,
    timestamp,
)
from abo_vqa.remote.key_pool import ApiKey, KeyPool
from abo_vqa.remote.ledger import Ledger

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
class PaidRun:
    """The result of a run.

    Attributes:
        tasks: the images, with their pairs.
        journal: the journal's path.
        cost: USD spent so far on all journals: earlier runs, and shards taken over, included.
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
) -> PaidRun:
    """Request whatever the journals don't hold yet.

    Args:
        config: the run's configuration.
        products: the balanced table's rows.
        quality_filter: judges pairs.
        log_metrics: takes metrics during the run.
        shard: which part of the images, or None for all.
        options: what the user asks of this run.

    Raises:
        RetryLaterError: see `Scheduler.run`; everything answered so far is saved.
        UserError: see `Scheduler.run`.
    """
    settings, record = config.generate, journal_settings(config)
    folder = journal_folder(record)
    path = folder / _journal_name(shard)
    with AnnotationJournal(path, record, shard) as journal:
        if journal.torn:
            logger.warning(f"{path.name}: cut off a line that a crash left incomplete")
        selected = [product for product in products if in_shard(product["image_path"], shard)]
        entries = load_history(folder)
        tasks = make_tasks(selected, entries, quality_filter, config)
        if options.retry_refused:
            _reopen(tasks, journal)
            tasks = make_tasks(selected, load_history(folder), quality_filter, config)
        if open_tasks := [task for task in tasks if task.is_open]:
            other_cost = total_cost(entries, settings) - total_cost(journal.entries, settings)
            paid = None if settings.annotator == LOCAL else other_cost
            reporter = ProgressReporter(len(open_tasks), log_metrics, paid)
            with open_archive(config.data.raw) as archive, closing(reporter):
                if settings.annotator == LOCAL:
                    _write_all(config, journal, archive, tasks, reporter, options)
                else:
                    _request_all(settings, journal, archive, open_tasks, reporter, options)
            if options.drop_failing:
                _drop_incomplete(open_tasks, journal)
            for line in describe_empty_replies(open_tasks, settings):
                logger.warning(line)
        entries = load_history(folder)
    tokens = {
        "input_tokens": float(sum(entry.usage.input for entry in entries)),
        "output_tokens": float(sum(entry.usage.output for entry in entries)),
    }
    return PaidRun(tasks, path, total_cost(entries, settings), tokens)


def _write_all(
    config: Config,
    journal: AnnotationJournal,
    archive: Archive,
    tasks: Sequence[Task],
    progress: Progress,
    options: RunOptions,
) -> None:
    """Have a model of the profile write what is missing, in this process."""
    from abo_vqa.annotate.local.run import LocalRun  # and torch, which the other annotators spare

    run = LocalRun(config, archive, journal, progress, drop_failing=options.drop_failing)
    run.run(tasks)


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


@dataclass(frozen=True)
class _RunContext:
    """What both ways to send requests need."""

    settings: GenerateConfig
    system: str
    tasks: Sequence[Task]
    archive: Archive
    journal: AnnotationJournal
    progress: Progress
    drop_failing: bool


def _request_all(
    settings: GenerateConfig,
    journal: AnnotationJournal,
    archive: Archive,
    tasks: Sequence[Task],
    progress: Progress,
    options: RunOptions,
) -> None:
    """Send requests for all tasks, by batch jobs or one at a time."""
    system = instruction(settings.prompt, settings.questions, settings.allow_brands)
    ledger_path = scratch("generate", "quota") / "calls.sqlite"
    with closing(Ledger(ledger_path)) as ledger, open_clients(settings) as keys:
        context = _RunContext(
            settings, system, tasks, archive, journal, progress, options.drop_failing
        )
        if options.retry_days:
            ledger.clear_daily_pauses()
        if settings.batch:
            jobs = BatchJobFile.load(journal.path.with_suffix(".jobs"))
            if not options.drop_failing:
                history = load_history(journal.path.parent)
                pilot = replace(context, tasks=pilot_tasks(tasks, jobs, history))
                _online_run(pilot, keys, ledger, jobs).run()
            _batch_run(context, keys, ledger, jobs).run()
        else:
            _online_run(context, keys, ledger).run()


def _online_run(
    context: _RunContext, keys: Sequence[ApiKey], ledger: Ledger, jobs: BatchJobFile | None = None
) -> Scheduler:
    settings, journal = context.settings, context.journal

    def reserved() -> float:
        return ledger.reserved_cost(journal.name) + (jobs.max_cost if jobs else 0.0)

    budget = Budget(settings, journal.entries, reserved)
    queue = TaskQueue(context.tasks)
    pool = KeyPool(keys, ledger, journal.name, settings)
    sender = RequestSender(
        context.system, context.archive, settings.image_size, journal, ledger, budget
    )
    failures = ImageFailures(journal, drop_failing=context.drop_failing)
    policy = FailurePolicy(settings, queue, pool, failures)
    return Scheduler(
        queue,
        sender,
        ControlRequest(context.system, ledger),
        policy,
        pool,
        budget,
        settings.concurrency,
        context.progress,
    )


def _batch_run(
    context: _RunContext, keys: Sequence[ApiKey], ledger: Ledger, jobs: BatchJobFile
) -> BatchRun:
    settings, journal = context.settings, context.journal
    clients = batch_clients(settings, keys)

    def reserved() -> float:
        return jobs.max_cost + ledger.reserved_cost(journal.name)

    entries = read_journal(journal.path).entries  # the pilot's, too
    budget = Budget(settings, entries, reserved, settings.batch_price)
    submitter = BatchSubmitter(
        clients, jobs, budget, context.system, context.archive, settings.image_size
    )
    control = BatchControl(
        settings, keys, ledger, journal.name, budget, ControlRequest(context.system, ledger)
    )
    collector = BatchCollector(
        settings,
        context.tasks,
        journal,
        budget,
        control,
        context.progress,
        drop_failing=context.drop_failing,
    )
    return BatchRun(settings, clients, jobs, context.tasks, submitter, collector)
