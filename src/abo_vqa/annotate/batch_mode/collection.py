"""Collecting a batch job's replies, and judging its failures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from abo_vqa.annotate.batch_mode.control import BatchControl
from abo_vqa.annotate.explain import describe_empty_streak
from abo_vqa.annotate.progress import Progress
from abo_vqa.annotate.replies import parse_pairs
from abo_vqa.annotate.tasks import Task, reply_entry
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.data.pairs import Reject
from abo_vqa.remote.batch_jobs import BatchJob
from abo_vqa.remote.budget import Budget
from abo_vqa.remote.contract import Reply, Request
from abo_vqa.remote.dispatch.stop_reasons import StopReasons
from abo_vqa.remote.errors import (
    InvalidKeyError,
    RefusedThinkingError,
    RequestRefusedError,
    ServiceError,
    UnknownParameterError,
)
from abo_vqa.remote.failure_streaks import FailureStreak, error_kind
from abo_vqa.remote.history import mark_outgrown, own_history
from abo_vqa.remote.journal import (
    DROPPED,
    AnnotationJournal,
    JournalEntry,
    timestamp,
)

if TYPE_CHECKING:
    from abo_vqa.core.service_config import GenerateConfig

_ADVICE = (
    "No image was dropped because of this. Check the API key, its account, and the settings under "
    "generate; what was collected is saved: run it again to continue."
)
_OPTION = "If the images themselves are the cause: abo-vqa generate --drop-failing."
_Failure = tuple[str, ServiceError]  # an image's path, and why it wasn't answered


class BatchCollector:
    """Writes the results of jobs into the journal."""

    def __init__(
        self,
        settings: GenerateConfig,
        system: str,
        tasks: Iterable[Task],
        journal: AnnotationJournal,
        budget: Budget,
        control: BatchControl,
        progress: Progress,
        *,
        drop_failing: bool,
    ) -> None:
        """Start without results.

        Args:
            settings: the price of the batch mode, and what messages name.
            system: the instruction, the same for all images.
            tasks: the images.
            journal: takes replies, and failures that are the images' own.
            budget: takes what replies cost.
            control: decides about the failures of a job none of whose requests was answered.
            progress: called after each reply.
            drop_failing: whether failures count against their images however many fail alike.
        """
        self._settings, self._journal, self._budget = settings, journal, budget
        self._system = system
        self._tasks = {task.image_path: task for task in tasks}
        self._control, self._progress, self._drop_failing = control, progress, drop_failing
        self._failures, self._empty_replies = FailureStreak(), FailureStreak()
        self._open_images = 0
        # Label of a job → its images that have an entry, by earlier runs and by this one.
        self._recorded: dict[str, set[str]] = {}
        self._instructive: set[str] = set()  # labels of jobs that were refused for a parameter
        for entry in own_history(journal):
            if entry.job:
                self._recorded.setdefault(entry.job, set()).add(entry.image_path)

    def collect(
        self,
        job: BatchJob,
        results: Iterable[tuple[str, Reply | ServiceError]],
        *,
        complete: bool = True,
    ) -> Exception | None:
        """Record a job's results; those that are recorded already are skipped.

        An earlier collection may have been interrupted: killed, or while downloading.

        Args:
            job: the job.
            results: the reply or the error of each image.
            complete: whether an image without a result has failed; those of an expired job are
                only asked about again.

        Returns:
            why no further job makes sense: the failures aren't the images' own, and aren't
            recorded. The job is finished nevertheless.
        """
        self._open_images = sum(task.is_open for task in self._tasks.values())
        known = self._recorded.setdefault(job.label, set())
        missing = dict.fromkeys(image_path for image_path in job.images if image_path not in known)
        answered = bool(known)
        failed: list[_Failure] = []
        stop: Exception | None = None
        for image_path, result in results:
            if image_path not in missing:
                continue
            del missing[image_path]
            if isinstance(result, UnknownParameterError):
                self._instructive.add(job.label)
                continue  # the next job asks without it
            if isinstance(result, Reply):
                answered = True
                stop = self._add_reply(job, image_path, result) or stop
            else:
                failed.append((image_path, result))
                stop = stop or self._add_failure(image_path, result)
        for image_path in missing if complete else ():
            error = ServiceError("the job's results have no line for this image")
            failed.append((image_path, error))
            stop = stop or self._add_failure(image_path, error)
        if not (answered or stop) and self._needs_control(failed):
            stop = self._check_service(job, failed)
        if not stop:
            self._record_failures(job, failed)
        return stop

    def was_useful(self, job: BatchJob) -> bool:
        """Return whether a collected job has changed anything: else the next will fail, too."""
        return bool(self._recorded.get(job.label)) or job.label in self._instructive

    def _add_reply(self, job: BatchJob, image_path: str, reply: Reply) -> Exception | None:
        """Record a reply; return why to stop if too many in a row had no pairs."""
        task = self._task(job, image_path)
        request = task.request(self._system) if task else Request(self._system, "", b"")
        reply = self._budget.bound_usage(reply, request)
        entry = self._entry(job, image_path, task, reply).with_limit(job.limit)
        self._append(entry)
        entry = mark_outgrown(entry, self._budget.output_limit)
        self._budget.record(entry)
        self._budget.estimator.update(request, entry.usage)
        first = bool(task and task.replies == 0)
        kind = task.shortfall(entry) if task and not entry.is_outgrown else ""
        self._update_task(task, entry)
        self._progress(self._open_images, self._budget.cost)
        self._failures.record_success()
        if entry.is_outgrown:
            return None
        if not kind:
            self._empty_replies.record_success()
        elif first:
            self._empty_replies.record_failure(image_path, kind)
            if self._empty_replies.is_systematic and not self._drop_failing:
                images = len(self._empty_replies.kinds)
                return UserError(describe_empty_streak(images, kind, self._settings))
        return None

    def _append(self, entry: JournalEntry) -> None:
        """Write an entry about a job's image; collecting the job again won't write another."""
        self._journal.append(entry)
        self._recorded[entry.job].add(entry.image_path)

    def _update_task(self, task: Task | None, entry: JournalEntry) -> None:
        """Take an entry into account; counting all open images each time would be quadratic."""
        if task:
            was_open = task.is_open
            task.update(entry)
            self._open_images -= was_open - task.is_open

    def _task(self, job: BatchJob, image_path: str) -> Task | None:
        """Return an image's task, or None if the input table has changed since the job."""
        task = self._tasks.get(image_path)
        return task if task and task.key == job.images[image_path] else None

    def _entry(
        self, job: BatchJob, image_path: str, task: Task | None, reply: Reply
    ) -> JournalEntry:
        """Return a reply as the journal keeps it; without a task it is kept unjudged."""
        price = self._settings.batch_price
        if task:
            return task.entry(reply, price, job.label)
        pairs = [Reject(p.question, p.answer, "unjudged") for p in parse_pairs(reply.text)]
        return reply_entry(image_path, job.images[image_path], reply, (), pairs, price, job.label)

    def _add_failure(self, image_path: str, error: ServiceError) -> Exception | None:
        """Count a request without a reply; return why to stop if it isn't the image's fault."""
        self._failures.record_failure(image_path, error_kind(str(error)))
        if isinstance(error, InvalidKeyError):
            return UserError(f"{error}. {_ADVICE}")
        if isinstance(error, RefusedThinkingError):
            reasons = StopReasons(self._settings, "generate.", "in params.yaml")
            return reasons.refused_thinking(error, "what was collected is saved")
        if self._drop_failing or not self._failures.is_systematic:
            return None
        message = f"{len(self._failures.kinds)} requests in a row failed: {error}"
        if isinstance(error, RequestRefusedError):
            return UserError(f"{message}. {_ADVICE} {_OPTION}")
        return RetryLaterError(
            f"{message}. No image was dropped because of this: run it again later."
        )

    def _needs_control(self, failed: Sequence[_Failure]) -> bool:
        """Return whether only a control request can tell why no request was answered."""
        single = len(failed) == 1 and self._failures.successes > 0
        return bool(failed) and not single and not self._drop_failing

    def _check_service(self, job: BatchJob, failed: Sequence[_Failure]) -> Exception | None:
        """Send the control request; return why to stop if it isn't answered either."""
        error = self._control.send(job)
        if error is None:
            self._failures.record_success()
            return None
        if isinstance(error, InvalidKeyError):
            return UserError(f"{error}. {_ADVICE}")
        message = f"all requests of the job failed: {failed[-1][1]}"
        if isinstance(error, RequestRefusedError):
            return UserError(f"{message}. {_ADVICE} {_OPTION}")
        return RetryLaterError(
            f"{message}; it can't be determined now whether the images are the cause: {error}. "
            "Everything is saved: run it again later."
        )

    def _record_failures(self, job: BatchJob, failed: Sequence[_Failure]) -> None:
        """Record failures that are the images' own: refusals for good, others as one failure."""
        for image_path, error in failed:
            kind = "failed"
            if isinstance(error, RequestRefusedError):
                kind = DROPPED if self._drop_failing else "refused"
            entry = JournalEntry(
                image_path,
                job.images[image_path],
                problem=f"{kind}: {error}",
                time=timestamp(),
                job=job.label,
            )
            self._append(entry)
            self._update_task(self._task(job, image_path), entry)
