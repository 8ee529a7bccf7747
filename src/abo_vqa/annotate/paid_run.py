"""Annotation by a paid model: ledger, keys, budget and images put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from abo_vqa.annotate.batch_mode.collection import BatchCollector
from abo_vqa.annotate.batch_mode.control import BatchControl
from abo_vqa.annotate.batch_mode.pilot import pilot_tasks
from abo_vqa.annotate.batch_mode.queue_limit import QueueLimit
from abo_vqa.annotate.batch_mode.run import BatchRun
from abo_vqa.annotate.batch_mode.submission import BatchSubmitter
from abo_vqa.annotate.control import ControlRequest
from abo_vqa.annotate.online.failure_policy import FailurePolicy
from abo_vqa.annotate.online.image_failures import ImageFailures, last_streak
from abo_vqa.annotate.online.scheduler import Scheduler
from abo_vqa.annotate.online.sender import TaskSender
from abo_vqa.annotate.progress import Progress
from abo_vqa.annotate.prompt import instruction
from abo_vqa.annotate.tasks import Task
from abo_vqa.core.scratch import scratch
from abo_vqa.data.archive import Archive
from abo_vqa.remote.batch_jobs import BatchJobFile
from abo_vqa.remote.budget import Budget
from abo_vqa.remote.clients import batch_clients, open_clients
from abo_vqa.remote.dispatch.queue import RequestQueue
from abo_vqa.remote.history import load_history, mark_outgrown, own_history
from abo_vqa.remote.journal import AnnotationJournal
from abo_vqa.remote.journal_files import load_jobs, own_names
from abo_vqa.remote.key_pool import ApiKey, KeyPool
from abo_vqa.remote.ledger import Ledger

if TYPE_CHECKING:
    from abo_vqa.core.service_config import GenerateConfig


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


def request_all(
    settings: GenerateConfig,
    journal: AnnotationJournal,
    archive: Archive,
    tasks: Sequence[Task],
    progress: Progress,
    *,
    retry_days: bool,
    drop_failing: bool,
) -> None:
    """Send requests for all tasks, by batch jobs or one at a time.

    Args:
        settings: the model, its prices and quotas.
        journal: takes the replies.
        archive: where the images are read from.
        tasks: the open ones.
        progress: see `Progress`.
        retry_days: use keys again whose daily quota was reported as spent.
        drop_failing: whether failures count against their images however many fail alike.

    Raises:
        RetryLaterError: see `Scheduler.run` and `BatchRun.run`.
        UserError: likewise.
    """
    system = instruction(settings.prompt, settings.questions, settings.allow_brands)
    ledger_path = scratch("generate", "quota") / "calls.sqlite"
    with closing(Ledger(ledger_path)) as ledger, open_clients(settings) as keys:
        context = _RunContext(settings, system, tasks, archive, journal, progress, drop_failing)
        if retry_days:
            ledger.clear_daily_pauses()
        if settings.batch:
            jobs = load_jobs(journal)
            if not drop_failing:
                history = load_history(journal.path.parent, journal.settings, journal.limit)
                streak = last_streak(own_history(journal), settings.questions)
                pilot = replace(context, tasks=pilot_tasks(tasks, jobs, history, streak))
                _online_run(pilot, keys, ledger, jobs).run()
            _batch_run(context, keys, ledger, jobs).run()
        else:
            _online_run(context, keys, ledger).run()


def _reserved_cost(
    journal: AnnotationJournal, ledger: Ledger, jobs: BatchJobFile | None
) -> Callable[[], float]:
    """Return what tells the USD that requests and jobs on their way may cost."""
    names = own_names(journal)
    return lambda: ledger.reserved_cost(*names) + (jobs.max_cost if jobs else 0.0)


def _online_run(
    context: _RunContext, keys: Sequence[ApiKey], ledger: Ledger, jobs: BatchJobFile | None = None
) -> Scheduler:
    settings, journal = context.settings, context.journal
    entries = own_history(journal)
    budget = Budget(settings, entries, _reserved_cost(journal, ledger, jobs))
    # Under a higher limit, replies that were cut off say nothing about the next ones.
    judged = [mark_outgrown(entry, journal.limit) for entry in entries]
    streak = last_streak(judged, settings.questions)
    # Others first: whether these fail again tells less.
    queue = RequestQueue(sorted(context.tasks, key=lambda task: task.image_path in streak.kinds))
    pool = KeyPool(keys, ledger, journal.name, settings)
    sender = TaskSender(
        context.system, context.archive, settings.image_size, journal, ledger, budget
    )
    failures = ImageFailures(journal, streak, drop_failing=context.drop_failing)
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
    entries = own_history(journal)  # the pilot's, too
    reserved = _reserved_cost(journal, ledger, jobs)
    budget = Budget(settings, entries, reserved, settings.batch_price)
    limit = QueueLimit(jobs, settings.batch_images)
    submitter = BatchSubmitter(
        clients, jobs, budget, limit, context.system, context.archive, settings.image_size
    )
    control = BatchControl(
        settings, keys, ledger, journal.name, budget, ControlRequest(context.system, ledger)
    )
    collector = BatchCollector(
        settings,
        context.system,
        context.tasks,
        journal,
        budget,
        control,
        context.progress,
        drop_failing=context.drop_failing,
    )
    return BatchRun(settings, clients, jobs, context.tasks, submitter, limit, collector)
