"""The life of batch jobs: submit, poll, collect, resume; or expire, and be submitted again.

A job is recorded before and after it is submitted: one whose creation was interrupted is found
again by its label, so that no image is paid for twice. The record lies next to the journal; replies
go into the journal itself, marked with their job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ParamSpec

from abo_vqa.annotate.batch_mode.collection import BatchCollector
from abo_vqa.annotate.batch_mode.deadline import JobDeadline
from abo_vqa.annotate.batch_mode.queue_limit import QueueLimit
from abo_vqa.annotate.batch_mode.submission import BatchSubmitter
from abo_vqa.annotate.tasks import Task
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.core.log import get_logger
from abo_vqa.remote.batch_jobs import BatchJob, BatchJobFile
from abo_vqa.remote.contract import BatchClient, BatchState
from abo_vqa.remote.dispatch.stop_reasons import StopReasons, address_advice
from abo_vqa.remote.errors import (
    DailyQuotaError,
    InvalidKeyError,
    NoBatchJobsError,
    RequestRefusedError,
    ResultsGoneError,
    ServiceError,
    UnknownModelError,
    UnreachableError,
)
from abo_vqa.remote.health import ServiceHealth

if TYPE_CHECKING:
    from abo_vqa.core.service_config import GenerateConfig

logger = get_logger(__name__)

_P = ParamSpec("_P")
_FORGOTTEN = "NOT_FOUND"  # state of a job that the vendor doesn't know any more
_MAX_FAILED_JOBS = 3  # one after the other


class BatchRun:
    """Brings all tasks to their end by batch jobs."""

    def __init__(
        self,
        settings: GenerateConfig,
        clients: Mapping[str, BatchClient],
        jobs: BatchJobFile,
        tasks: Sequence[Task],
        submitter: BatchSubmitter,
        limit: QueueLimit,
        collector: BatchCollector,
    ) -> None:
        """Collect the parts of a run.

        Args:
            settings: patience and deadline.
            clients: by the key's id.
            jobs: the record of the jobs under way.
            tasks: the images.
            submitter: starts jobs.
            limit: tells how large they may be, and learns from what becomes of them.
            collector: takes their results.
        """
        self._settings, self._clients, self._jobs, self._tasks = settings, clients, jobs, tasks
        self._submitter, self._limit, self._collector = submitter, limit, collector
        self._deadline = JobDeadline(settings.batch_deadline_h, jobs)
        self._failed_jobs = 0
        self._health = ServiceHealth(settings.patience_s)

    def run(self) -> None:
        """Submit, poll and collect until every task is complete or dropped.

        Raises:
            UserError: a job's key is missing, the budget is used up, or jobs fail again and again.
            RetryLaterError: the service doesn't answer, or its queue is full of other jobs; those
                submitted keep running there.
        """
        self._require_keys()
        for job in list(self._jobs.jobs):  # those given up, too: they may have ended since
            if job.key in self._clients:
                self._tolerate_outage(self._poll, job)
        while self._submit_all() or self._jobs.under_way:
            time.sleep(self._settings.batch_poll_s)
            for job in self._jobs.under_way:
                self._tolerate_outage(self._poll, job)

    def _require_keys(self) -> None:
        """Check that the keys of the jobs that are waited for are there."""
        for job in self._jobs.under_way:
            if job.key not in self._clients:
                raise UserError(
                    f"the batch job {job.name or job.label} belongs to a key that isn't in the "
                    "environment. Add that key, or drop the job's replies by deleting "
                    f"{self._jobs.path}."
                )

    def _tolerate_outage(
        self, function: Callable[_P, bool], *args: _P.args, **kwargs: _P.kwargs
    ) -> None:
        """Call a function whose failures may be temporary.

        Args:
            function: returns whether the service has answered; without that, patience runs out.
            args: its arguments.
            kwargs: its keyword arguments.

        Raises:
            UserError: the key, the account or the model is refused.
            RetryLaterError: the daily quota is spent, or patience is exhausted.
        """
        try:
            if function(*args, **kwargs):
                self._health.record_answer()
        except NoBatchJobsError as error:
            raise UserError(
                f"this server has no batch jobs ({error}): set generate.batch: false."
                f"{address_advice(self._settings, 'generate.')} What was collected is saved."
            ) from None
        except (InvalidKeyError, UnknownModelError, RequestRefusedError) as error:
            raise UserError(
                f"{error}. Check the API key, its account, and generate.model."
                f"{address_advice(self._settings, 'generate.')} What was collected is saved: run "
                "it again to continue."
            ) from None
        except DailyQuotaError as error:
            raise RetryLaterError(
                f"the key's daily quota is spent; what was collected is saved: run it again "
                f"tomorrow. The service says: {error}"
            ) from None
        except ServiceError as error:
            reasons = StopReasons(self._settings, "generate.", "in params.yaml")
            if isinstance(error, UnreachableError) and not self._health.answers:
                raise reasons.no_connection(error, "what was collected is saved") from None
            if self._health.patience_exhausted:
                raise RetryLaterError(
                    f"no answer for {self._settings.patience_s:g} s; last error: {error}. "
                    "Submitted jobs keep running on the vendor's side, and what was collected is "
                    "saved: run it again later."
                ) from None

    def _waiting(self) -> list[Task]:
        """Return the tasks that need a reply and aren't part of a job."""
        busy = {image for job in self._jobs.under_way for image in job.images}
        return [task for task in self._tasks if task.image_path not in busy and task.is_open]

    def _submit_all(self) -> bool:
        """Submit jobs for the waiting tasks; return whether any are left to submit later."""
        waiting = self._waiting()
        lines = self._jobs.path.with_suffix(".request.jsonl.tmp")
        while waiting and self._submitter.may_start():
            tasks, waiting = waiting[: self._limit.size], waiting[self._limit.size :]
            self._tolerate_outage(self._submitter.submit, tasks, lines)
        return bool(self._waiting())

    def _recover_name(self, job: BatchJob) -> bool:
        """Ask for the name of a job whose creation was interrupted; return whether it exists."""
        job.name = self._clients[job.key].find(job.label)
        if job.name:
            self._jobs.save()
        else:
            self._jobs.remove(job)
        return bool(job.name)

    def _poll(self, job: BatchJob) -> bool:
        """Check a job's state; collect its results if it has ended.

        Returns:
            True: the service has answered.
        """
        if not job.name and not self._recover_name(job):
            return True
        client = self._clients[job.key]
        state = self._state(job, client)
        if state.phase in ("waiting", "running"):
            if state.phase == "running":
                self._limit.record_running(job)
            self._deadline.enforce(job, client, state)
            return True
        if state.phase == "refused":
            self._jobs.remove(job)
            self._limit.record_refusal(job, state.message)
            return True
        self._limit.record_end(job)
        stop: Exception | None = None
        try:
            if state.name == _FORGOTTEN:
                raise ResultsGoneError("the vendor doesn't know it any more")
            if state.results:
                complete = state.phase == "succeeded"
                results = client.results(state.results)
                stop = self._collector.collect(job, results, complete=complete)
        except ResultsGoneError as error:
            if job.given_up:  # in an earlier run
                return True
            self._give_up(job, error)
        else:
            self._jobs.remove(job)
        # An expired job has a file with results even if it answered nothing.
        self._failed_jobs = 0 if self._collector.was_useful(job) else self._failed_jobs + 1
        if stop:
            raise stop
        self._stop_after_failed_jobs(state)
        return True

    def _give_up(self, job: BatchJob, error: ResultsGoneError) -> None:
        """Ask again about the images of a job whose results the vendor has deleted."""
        self._jobs.give_up(job)
        logger.warning(
            f"the results of batch job {job.name} are gone ({error}): vendors keep them for some "
            "weeks. What isn't in the journal is asked about again. The job may have cost "
            f"{job.cost:.4f} USD, which stay reserved in the budget."
        )

    def _stop_after_failed_jobs(self, state: BatchState) -> None:
        """Stop if one job after the other brought nothing.

        Args:
            state: the last one's.

        Raises:
            UserError: several jobs in a row have.
        """
        if self._failed_jobs >= _MAX_FAILED_JOBS:
            raise UserError(
                f"{self._failed_jobs} batch jobs in a row ended as {state.name}"
                + (f": {state.message.rstrip('.')}" if state.message else "")
                + ". See the vendor's console, try smaller jobs (generate.batch_images), or set "
                "generate.batch: false. What was collected is saved."
            )

    def _state(self, job: BatchJob, client: BatchClient) -> BatchState:
        """Return a job's state; one that the vendor has forgotten has expired."""
        try:
            return client.state(job.name)
        except UnknownModelError:
            if client.find(job.label):  # it exists, whatever wasn't found
                raise
            return BatchState("expired", _FORGOTTEN)
