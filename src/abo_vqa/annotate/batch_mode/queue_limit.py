"""The vendor's limit on what may be queued in batch jobs: a full queue is waited for.

OpenAI limits the tokens of an account's unfinished jobs, and finds out after a job is created: the
job fails, and costs nothing. Google refuses to create it. Neither says how many jobs fit, so a run
starts with two, and with more once the vendor has taken those on.
"""

from __future__ import annotations

import time

from abo_vqa.core.errors import RetryLaterError
from abo_vqa.core.log import get_logger
from abo_vqa.remote.batch_jobs import BatchJob, BatchJobFile

logger = get_logger(__name__)

_FIRST_JOBS = 2  # on trial at once, before the vendor has taken any on
RETRY_S = 1800.0  # until a full queue is tried again: the jobs in it may be other people's


class QueueLimit:
    """Which keys may start a job now, and how large it may be.

    Attributes:
        size: images per job at most.
    """

    def __init__(self, jobs: BatchJobFile, size: int) -> None:
        """Start without a known limit.

        Args:
            jobs: the record of the jobs under way.
            size: images per job at most (`generate.batch_images`).
        """
        self._jobs, self.size = jobs, size
        self._free: dict[str, int] = {}  # key with a known limit → jobs that fit
        self._retry: dict[str, float] = {}  # the same → when to try nevertheless, in Unix seconds
        # Labels of jobs that the vendor works on, and of those that were started before any other.
        self._taken_on: set[str] = set()
        self._alone: set[str] = set()

    def allows(self, key: str) -> bool:
        """Return whether a key may start a job now; one without a job under way always may.

        Args:
            key: the key's id.
        """
        mine = self._under_way(key)
        on_trial = sum(job.label not in self._taken_on for job in mine)
        if not mine:
            return True
        if on_trial >= max(_FIRST_JOBS, len(self._taken_on)):
            return False
        return self._free.get(key, 1) > 0 or time.time() >= self._retry[key]

    def _under_way(self, key: str) -> list[BatchJob]:
        return [job for job in self._jobs.under_way if job.key == key]

    def record_start(self, job: BatchJob) -> None:
        """Record a job before it is created."""
        if all(other is job for other in self._under_way(job.key)):
            self._alone.add(job.label)
        if job.key in self._free:
            self._free[job.key] = max(0, self._free[job.key] - 1)
            self._retry[job.key] = time.time() + RETRY_S

    def record_running(self, job: BatchJob) -> None:
        """Record that the vendor works on a job."""
        self._taken_on.add(job.label)

    def record_end(self, job: BatchJob) -> None:
        """Record that a job has ended, which leaves room for another."""
        self._taken_on.add(job.label)
        if job.key in self._free:
            self._free[job.key] += 1

    def record_refusal(self, job: BatchJob, message: str, delay: float | None = None) -> None:
        """Record that there was no room for a job; one that was alone was too large.

        Args:
            job: the job, which isn't under way any more.
            message: the vendor's.
            delay: seconds after which the vendor says that there is room, or None.

        Raises:
            RetryLaterError: there was no room for a single image.
        """
        images = len(job.images)
        known = job.key in self._free
        self._free.setdefault(job.key, 0)
        self._retry[job.key] = time.time() + (RETRY_S if delay is None else delay)
        if job.label not in self._alone or self._under_way(job.key):
            if not known:
                logger.warning(
                    f"the vendor's queue of batch jobs is full: the next job starts when one has "
                    f"ended. The service says: {message}"
                )
        elif images == 1:
            raise RetryLaterError(
                "the vendor's queue of batch jobs has no room for a single image, and no job of "
                "this run is in it: the jobs of others with the same account may be. Everything is "
                f"saved: run it again later. The service says: {message}"
            )
        else:
            self.size = max(1, images // 2)
            logger.warning(
                f"a batch job of {images} images is more than the vendor's queue takes: jobs have "
                f"{self.size} from now on (generate.batch_images). The service says: {message}"
            )
