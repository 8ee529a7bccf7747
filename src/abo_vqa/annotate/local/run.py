"""Annotation by a model of the profile: rounds of batches, each in the journal before the next.

What an image is asked for depends on its earlier replies, so there are rounds: all images, then
those that still lack pairs. Which images share a batch follows from the images, the batch size and
the replies of earlier rounds, and a batch's replies reach the journal together: an interrupted run
goes on with the batches that an uninterrupted one forms, so that rounding doesn't differ either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, overload

from abo_vqa.annotate.explain import describe_empty_streak
from abo_vqa.annotate.local.requests import prompt_text, require_room, system_text
from abo_vqa.annotate.local.writer import PairWriter
from abo_vqa.annotate.progress import Progress
from abo_vqa.annotate.tasks import Task
from abo_vqa.core.engine.opening import model_needs, open_engine
from abo_vqa.core.engine.work import Workers
from abo_vqa.core.errors import UserError
from abo_vqa.models.answering.writing import WritingTask
from abo_vqa.models.registry import checkpoint_of
from abo_vqa.models.writing import WrittenText
from abo_vqa.remote.contract import Reply, Usage
from abo_vqa.remote.failure_streaks import FailureStreak, error_kind
from abo_vqa.remote.journal import AnnotationJournal, JournalEntry, timestamp

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


def write_all(
    config: Config,
    journal: AnnotationJournal,
    tasks: Sequence[Task],
    progress: Progress,
    *,
    drop_failing: bool,
) -> None:
    """Load the model and have it write the pairs that are missing.

    Args:
        config: the run's configuration.
        journal: takes the replies.
        tasks: all tasks of the run, in a fixed order, finished ones included.
        progress: see `Progress`.
        drop_failing: whether failures count against their images however many fail alike.

    Raises:
        UserError: the model has no room for a prompt and a reply; see also `LocalRun`.
    """
    require_room(config, tasks)  # before minutes are spent on loading
    with (
        open_engine(config) as engine,
        engine.workers(partial(PairWriter, config), model_needs(config)) as writers,
    ):
        LocalRun(config, writers, journal, progress, drop_failing=drop_failing).run(tasks)


class LocalRun:
    """Has a model of the profile write the pairs that are missing.

    Args:
        config: the run's configuration.
        writers: have the model.
        journal: takes the replies.
        progress: see `Progress`.
        drop_failing: whether failures count against their images however many fail alike.
    """

    def __init__(
        self,
        config: Config,
        writers: Workers[Sequence[WritingTask], list[WrittenText | str]],
        journal: AnnotationJournal,
        progress: Progress,
        *,
        drop_failing: bool,
    ) -> None:
        settings = config.generate
        self._settings, self._seed, self._writers = settings, config.seed, writers
        self._journal, self._progress = journal, progress
        self._system = system_text(settings)
        self._failures, self._drop_failing = FailureStreak(), drop_failing
        self._batch_size = checkpoint_of(settings.model, config).batch_size

    def run(self, tasks: Sequence[Task]) -> None:
        """Write until every task is complete or dropped.

        Args:
            tasks: all tasks of the run, in a fixed order, finished ones included.

        Raises:
            UserError: the model can't be loaded or doesn't follow instructions; image after image
                fails alike; memory isn't sufficient for one.
        """
        open_images = sum(task.is_open for task in tasks)
        for attempt in range(self._settings.attempts):
            batches = _form_batches(tasks, attempt, self._batch_size)
            # In order, since a streak of failures ends the run.
            results = self._writers.run(_Asked(batches, self._writing_task), in_order=True)
            with closing(results):
                for position, texts in results:
                    batch = batches[position]
                    self._take(batch, texts)
                    open_images -= sum(not task.is_open for task in batch)
                    self._progress(open_images, 0.0)

    def _writing_task(self, task: Task) -> WritingTask:
        """Return what a task asks for now; its next reply changes that."""
        name = f"{self._seed}:{task.image_path}:{task.replies}"
        digest = hashlib.sha256(name.encode()).digest()
        seed = int.from_bytes(digest[:8], "big", signed=True)
        return WritingTask(task.image_path, prompt_text(task, self._system), seed)

    def _take(self, batch: Sequence[Task], texts: Sequence[WrittenText | str]) -> None:
        """Put a batch's texts into the journal, all at once, and judge them."""
        replies: list[tuple[Task, WrittenText, JournalEntry]] = []
        for task, text in zip(batch, texts, strict=True):
            if isinstance(text, str):
                task.problem = f"unreadable: {text}"
                continue
            replies.append((task, text, self._entry(task, text)))
        self._journal.extend([entry for *_, entry in replies])
        problems = [self._judge(*reply) for reply in replies]
        if problem := next(filter(None, problems), ""):
            raise UserError(problem)

    def _judge(self, task: Task, text: WrittenText, entry: JournalEntry) -> str:
        """Update a task; return why the run has to stop, or ""."""
        kind, first = task.shortfall(entry), task.replies == 0
        task.update(entry)
        if not kind:
            self._failures.record_success()
        elif first:
            # Prompts that are too long are so by different numbers of tokens.
            alike = error_kind(kind) if entry.problem else kind
            self._failures.record_failure(task.image_path, alike)
        if not kind or self._drop_failing or not self._failures.is_systematic:
            return ""
        sample = "" if entry.candidates else text.text
        return describe_empty_streak(len(self._failures.kinds), kind, self._settings, sample)

    def _entry(self, task: Task, text: WrittenText) -> JournalEntry:
        """Return a text as the journal keeps it: a reply without a price."""
        if text.error:
            problem = f"refused: {text.error}"
            return JournalEntry(task.image_path, task.key, problem=problem, time=timestamp())
        usage = Usage(text.input_tokens, text.output_tokens)
        reply = Reply(text.text, text.finish, usage=usage, model=self._settings.model)
        return task.entry(reply, price=0.0)


class _Asked(Sequence[list[WritingTask]]):
    """What batches of tasks ask for, put into words when a batch's turn comes."""

    def __init__(
        self, batches: Sequence[Sequence[Task]], ask: Callable[[Task], WritingTask]
    ) -> None:
        self._batches, self._ask = batches, ask

    def __len__(self) -> int:
        return len(self._batches)

    @overload
    def __getitem__(self, position: int) -> list[WritingTask]: ...
    @overload
    def __getitem__(self, position: slice) -> _Asked: ...
    def __getitem__(self, position: int | slice) -> list[WritingTask] | _Asked:
        if isinstance(position, slice):
            return _Asked(self._batches[position], self._ask)
        return [self._ask(task) for task in self._batches[position]]


def _form_batches(tasks: Sequence[Task], attempt: int, size: int) -> list[list[Task]]:
    """Return the batches of a round that aren't in the journal yet.

    Args:
        tasks: all tasks.
        attempt: how many replies a task of this round had before.
        size: images in a batch.
    """

    def is_due(task: Task) -> bool:
        return task.replies == attempt and task.is_open

    members = [task for task in tasks if task.replies > attempt or is_due(task)]
    batches = [members[i : i + size] for i in range(0, len(members), size)]
    return [due for batch in batches if (due := [task for task in batch if is_due(task)])]
