"""The end of batch jobs that take too long: no job is waited for without a limit."""

from __future__ import annotations

import time

from abo_vqa.core.log import get_logger
from abo_vqa.remote.batch_jobs import BatchJob, BatchJobFile
from abo_vqa.remote.contract import BatchClient, BatchState
from abo_vqa.remote.errors import RequestRefusedError, UnknownModelError

logger = get_logger(__name__)

_HOUR = 3600.0
CANCEL_GRACE_S = 3600.0  # a vendor takes minutes to cancel a job, and collects its results first


class JobDeadline:
    """Cancels jobs that are too old, and gives up those that won't even be cancelled."""

    def __init__(self, hours: float, jobs: BatchJobFile) -> None:
        """Take over the record of jobs.

        Args:
            hours: age at which a job is cancelled (`generate.batch_deadline_h`).
            jobs: keeps when a job was cancelled, since runs are interrupted.
        """
        self._hours, self._jobs = hours, jobs

    def enforce(self, job: BatchJob, client: BatchClient, state: BatchState) -> None:
        """Cancel a running job that is too old, or give it up.

        Args:
            job: the job.
            client: its key's.
            state: what the vendor says about it.

        Raises:
            ServiceError: the service doesn't answer; it is tried again with the next poll.
        """
        now = time.time()
        if not job.submitted:  # recorded by a former version: its time starts now
            job.submitted = now
            self._jobs.save()
        if job.given_up or now - job.submitted < self._hours * _HOUR:
            return
        if not job.cancelled:
            self._cancel(job, client, state)
        elif now - job.cancelled > CANCEL_GRACE_S:
            self._jobs.give_up(job)
            logger.warning(
                f"batch job {job.name} is still {state.name} although it was cancelled: it is "
                "given up, and its images are asked about again. It may still cost "
                f"{job.cost:.4f} USD, which stay reserved; look at it in the vendor's console."
            )

    def _cancel(self, job: BatchJob, client: BatchClient, state: BatchState) -> None:
        try:
            client.cancel(job.name)
        except (RequestRefusedError, UnknownModelError) as error:  # the next poll tells
            logger.warning(f"batch job {job.name} can't be cancelled: {error}")
        job.cancelled = time.time()
        self._jobs.save()
        logger.warning(
            f"batch job {job.name} is {state.name} after {self._hours:g} hours "
            "(generate.batch_deadline_h) and is cancelled: what it has answered is collected, "
            "the other images are asked about again."
        )
