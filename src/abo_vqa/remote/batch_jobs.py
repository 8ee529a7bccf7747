"""Batch jobs under way, recorded on disk so that a restart finds them again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json, write_json


@dataclass
class BatchJob:
    """A batch job.

    Attributes:
        label: its display name, chosen by us before it exists.
        key: the id of the API key that it belongs to.
        images: the paths asked about, each with its task's key.
        cost: USD at most.
        name: the vendor's name, once known.
        submitted: Unix seconds; 0 in files of former versions.
        cancelled: Unix seconds when its end was asked for, or 0.
        given_up: whether it wouldn't end, or its results can't be had: its images are asked about
            again, and what it may cost stays reserved.
        limit: output tokens that its requests allow; 0 in files of former versions.
    """

    label: str
    key: str
    images: dict[str, str]
    cost: float
    name: str = ""
    submitted: float = 0.0
    cancelled: float = 0.0
    given_up: bool = False
    limit: int = 0


@dataclass
class BatchJobFile:
    """The jobs under way.

    Attributes:
        path: the JSON file.
        jobs: its content.
    """

    path: Path
    jobs: list[BatchJob] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> BatchJobFile:
        """Read the file; without one there are no jobs.

        Raises:
            UserError: it isn't a list of jobs.
        """
        records = read_json(path) if path.is_file() else []
        try:
            return cls(path, [BatchJob(**record) for record in records])
        except TypeError as error:
            raise UserError(
                f"{path} isn't a list of batch jobs: {error}. Without it their replies are lost: "
                "move it away only if none is under way."
            ) from error

    @property
    def under_way(self) -> list[BatchJob]:
        """The jobs whose results are waited for."""
        return [job for job in self.jobs if not job.given_up]

    @property
    def max_cost(self) -> float:
        """USD that the jobs cost at most."""
        return sum(job.cost for job in self.jobs)

    def add(self, job: BatchJob) -> None:
        """Record a job before it is created."""
        self.jobs.append(job)
        self.save()

    def remove(self, job: BatchJob) -> None:
        """Forget a job."""
        self.jobs.remove(job)
        self.save()

    def give_up(self, job: BatchJob) -> None:
        """Wait for a job's results no longer, and keep what it may cost reserved."""
        job.given_up = True
        self.save()

    def take_over(self, path: Path, limit: int) -> None:
        """Make another file's jobs one's own, and delete it.

        Args:
            path: the file.
            limit: output tokens that its jobs' requests allow.

        Raises:
            UserError: it isn't a list of jobs.
        """
        known = {job.label for job in self.jobs}  # a kill may have come before the deletion
        for job in BatchJobFile.load(path).jobs:
            if job.label not in known:
                job.limit = job.limit or limit
                self.jobs.append(job)
        self.save()
        path.unlink()

    def save(self) -> None:
        """Write the file."""
        write_json([vars(job) for job in self.jobs], self.path)
