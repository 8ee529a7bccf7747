"""A few images asked about at once before a job is paid for whose replies may all be empty."""

from __future__ import annotations

from collections.abc import Sequence

from abo_vqa.annotate.tasks import Task
from abo_vqa.remote.batch_jobs import BatchJobFile
from abo_vqa.remote.failure_streaks import MIN_STREAK, FailureStreak
from abo_vqa.remote.journal import EXCUSED, JournalEntry

_LARGE = 100  # images from which a run starts with a pilot in any case


def pilot_tasks(
    tasks: Sequence[Task],
    jobs: BatchJobFile,
    history: Sequence[JournalEntry],
    streak: FailureStreak,
) -> list[Task]:
    """Return the images to ask about before the next job; none where a job is safe.

    A model that spends its whole output on reasoning does so for every image of a job. As many
    images as stop a run are asked about first: of a large set if no reply has brought pairs so
    far, and of any if the last replies were a systematic failure, since the same job would be paid
    for again.

    Args:
        tasks: the open images.
        jobs: the jobs under way; their images are asked about already.
        history: the journals' entries, those of systematic failures marked as excused.
        streak: the one that the present journal ends with; of replies that were cut off, too, whose
            pairs count, by whatever limit: today's may be too low as well.
    """
    replies = [entry for entry in history if entry.finish or entry.usage.input]
    last = max(replies, key=lambda entry: entry.time, default=None)
    failed = last is not None and last.problem.startswith(EXCUSED)
    failed = failed or streak.is_systematic
    untried = not any(entry.pairs and not entry.is_outgrown for entry in replies)
    busy = {image for job in jobs.under_way for image in job.images}
    waiting = [task for task in tasks if task.image_path not in busy]
    if failed or (untried and not busy and len(waiting) > _LARGE):
        # Those that were part of a systematic failure come last: failing again, they tell less.
        members = {entry.image_path for entry in replies if entry.problem.startswith(EXCUSED)}
        members |= streak.kinds.keys()
        return sorted(waiting, key=lambda task: task.image_path in members)[:MIN_STREAK]
    return []
