"""Submitting batch jobs within the budget."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from abo_vqa.annotate.batch_mode.queue_limit import QueueLimit
from abo_vqa.annotate.tasks import Task
from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_write
from abo_vqa.core.log import get_logger
from abo_vqa.data.archive import Archive
from abo_vqa.data.image_files import ImageError
from abo_vqa.remote.batch_jobs import BatchJob, BatchJobFile
from abo_vqa.remote.budget import Budget
from abo_vqa.remote.contract import BatchClient
from abo_vqa.remote.errors import (
    BatchQueueFullError,
    DailyQuotaError,
    InvalidKeyError,
    ServiceError,
    ThrottledError,
)
from abo_vqa.remote.journal import timestamp

logger = get_logger(__name__)


class BatchSubmitter:
    """Writes requests into a file and starts a job on it, with one key after the other."""

    def __init__(
        self,
        clients: Mapping[str, BatchClient],
        jobs: BatchJobFile,
        budget: Budget,
        limit: QueueLimit,
        system: str,
        archive: Archive,
        image_size: int,
    ) -> None:
        """Collect what jobs are made of.

        Args:
            clients: by the key's id.
            jobs: takes each job before it exists.
            budget: limits them.
            limit: tells which keys may start a job.
            system: the instruction, the same for all images.
            archive: where the images are read from.
            image_size: pixels per side, at most.
        """
        self._clients, self._jobs, self._budget, self._limit = clients, jobs, budget, limit
        self._system, self._archive, self._image_size = system, archive, image_size
        self._keys = sorted(clients)  # the one whose turn it is comes first

    def may_start(self) -> bool:
        """Return whether some key may start a job now."""
        return any(map(self._limit.allows, self._keys))

    def submit(self, tasks: Sequence[Task], lines: Path) -> bool:
        """Start one job, with as many of the tasks as the budget allows.

        Args:
            tasks: the images.
            lines: the file to write the requests to, deleted afterwards.

        Returns:
            whether a job was started; without requests the service isn't contacted.

        Raises:
            UserError: the budget allows none, and no other job is under way.
            RetryLaterError: the vendor's queue has no room for a single image.
            ServiceError: the job can't be created now.
        """
        key = next(filter(self._limit.allows, self._keys))
        self._keys.remove(key)  # the next job goes to the next key
        self._keys.append(key)
        client = self._clients[key]
        label = f"abo-vqa-{uuid.uuid4().hex[:12]}"
        limit = self._budget.output_limit
        job = BatchJob(label, key, {}, 0.0, submitted=timestamp(), limit=limit)
        with atomic_write(lines) as temporary, temporary.open("w", encoding="utf-8") as out:
            for task in tasks:
                self._add(job, task, client, out)
        if not job.images:
            lines.unlink()
            return False
        try:
            self._jobs.add(job)
            self._limit.record_start(job)
            job.name = client.submit(job.label, lines)
        except ServiceError as error:
            # It may exist nevertheless: the reply to its creation may be what got lost.
            job.name = client.find(job.label) if error.billed else ""
            if not job.name:
                self._jobs.jobs.remove(job)
                if self._is_queue_full(key, error):
                    self._limit.record_refusal(job, str(error), error.delay)
                elif not self._leave_out(key, error):
                    raise
                return True  # the service has answered; the next try takes another key
        finally:
            self._jobs.save()
            lines.unlink()
        return True

    def _is_queue_full(self, key: str, error: ServiceError) -> bool:
        """Return whether a job couldn't be created because of those that are under way."""
        others = any(job.key == key for job in self._jobs.under_way)
        return isinstance(error, BatchQueueFullError) or (
            isinstance(error, ThrottledError) and others
        )

    def _leave_out(self, key: str, error: ServiceError) -> bool:
        """Start no more jobs with a key that is refused or spent, if there is another one."""
        if not isinstance(error, (InvalidKeyError, DailyQuotaError)) or len(self._keys) == 1:
            return False
        self._keys.remove(key)
        logger.warning(f"a key starts no more jobs: {error}")
        return True

    def _add(self, job: BatchJob, task: Task, client: BatchClient, out: TextIO) -> None:
        """Write a task's request into the job's file, if its image and the budget allow."""
        draft = task.request(self._system)
        cost = self._budget.max_cost(draft)
        if not self._budget.allows(job.cost + cost):
            if not job.images and not self._jobs.under_way:
                raise UserError(
                    f"generate.budget_usd: the next job might exceed {self._budget.limit:g} USD; "
                    f"{self._budget.cost:.4f} are spent. Everything is saved: raise it and run "
                    "again."
                )
            return
        try:
            image = self._archive.jpeg(task.image_path, self._image_size)
        except ImageError as error:
            task.problem = f"unreadable: {error.reason}"
            return
        body = client.encode(replace(draft, image=image))
        out.write(json.dumps({"key": task.image_path, "request": body}) + "\n")
        job.images[task.image_path] = task.key
        job.cost += cost
