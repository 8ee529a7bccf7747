"""The vendor's batch mode: half the price, answers within a day. Submit, poll, collect, resume.

What was submitted is written down before and after: a job whose creation was interrupted is found
again by its name, so that no image is paid for twice. The jobs' record lies beside the journal;
replies go into the journal itself, marked with their job.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.annotate.explain import in_a_row
from abo_vqa.annotate.flights import to_entry
from abo_vqa.annotate.gate import Gate
from abo_vqa.annotate.prompt import parse
from abo_vqa.annotate.tasks import Task, picture, request_for
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.core.files import atomic_write
from abo_vqa.data.archive import Archive
from abo_vqa.data.image_files import ImageError
from abo_vqa.data.pairs import Reject
from abo_vqa.remote.batch_jobs import Batches, Job, Record, rest_request
from abo_vqa.remote.budget import Estimator, most_expensive, spent, usd
from abo_vqa.remote.contract import Annotator, Request
from abo_vqa.remote.errors import (
    DailyQuotaError,
    InvalidKeyError,
    RequestRefusedError,
    ServiceError,
    UnknownModelError,
)
from abo_vqa.remote.gemini import Gemini, to_reply
from abo_vqa.remote.google_errors import trouble
from abo_vqa.remote.journal import DROPPED, Entry, Journal, now
from abo_vqa.remote.keys import redact
from abo_vqa.remote.streaks import Streak, fruitless, gist

if TYPE_CHECKING:
    from abo_vqa.config import GenerateConfig

RUNNING = {"JOB_STATE_UNSPECIFIED", "JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING"}
_GOOD = {"JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED"}
_MOST_FAILURES = 3  # jobs that fail one after the other
_NOT_THE_PICTURES = (
    "No picture is given up for this. Check the API key, its account, and the settings under "
    "generate; what was collected is saved: run it again to go on."
)


def _line_trouble(client: Batches, error: Mapping[str, Any]) -> ServiceError:
    """The typed error of one line of a job's answers (a google.rpc.Status)."""
    message = redact(str(error.get("message", "")), client.annotator.secrets)
    status, details = str(error.get("status", "")), error.get("details") or []
    return trouble(int(error.get("code") or 0), status, message, details)


class BatchRun:
    """Brings all tasks to their end by batch jobs."""

    def __init__(
        self,
        settings: GenerateConfig,
        system: str,
        gate: Gate,
        made: Sequence[tuple[str, Annotator]],
        journal: Journal,
        archive: Archive,
        tasks: Sequence[Task],
        shown: Callable[[int, float], None],
        drop_failing: bool = False,
    ) -> None:
        self.settings, self.system, self.gate = settings, system, gate
        self.journal, self.archive, self.shown = journal, archive, shown
        self.drop_failing = drop_failing
        self.failures, self.fruitless = Streak(), Streak()
        self.clients = {
            name: Batches(client) for name, client in made if isinstance(client, Gemini)
        }
        if not self.clients:
            raise UserError("generate.batch needs generate.annotator: gemini.")
        self.tasks = {task.path: task for task in tasks}
        self.record = Record.load(journal.path.with_suffix(".jobs"))
        self.cost = spent(journal.entries, settings)
        self.estimator = Estimator.knowing(settings.image_size, journal.entries)
        self.failed_jobs, self.turn = 0, 0
        self.last_word = time.monotonic()

    def run(self) -> None:
        """Submit, poll and collect until every task is complete or hopeless.

        Raises:
            UserError: the budget is used up, or jobs fail again and again.
            ComeBackLater: the service doesn't answer; jobs go on at the vendor's.
        """
        self.adopt()
        while True:
            if not self.submit_all() and not self.record.jobs:
                return
            time.sleep(self.settings.batch_poll_s)
            for job in list(self.record.jobs):
                self.patiently(lambda job=job: self.poll(job))  # type: ignore[misc]

    def adopt(self) -> None:
        """Settle jobs that a crash left between being wished for and being known."""
        for job in list(self.record.jobs):
            if job.key not in self.clients:
                raise UserError(
                    f"the batch job {job.name or job.label} belongs to a key that isn't in the "
                    "environment. Add that key, or wait for nothing from it by deleting "
                    f"{self.record.path}."
                )
            if not job.name:
                job.name = self.clients[job.key].find(job.label)
                if not job.name:
                    self.record.jobs.remove(job)
                self.record.save()

    def patiently(self, do: Callable[[], None]) -> None:
        """Try again later what fails for now, as long as patience lasts."""
        try:
            do()
            self.last_word = time.monotonic()
        except (InvalidKeyError, UnknownModelError, RequestRefusedError) as error:
            raise UserError(
                f"{error}. Check the API key, its account, and generate.model. What was collected "
                "is saved: run it again to go on."
            ) from None
        except DailyQuotaError as error:
            raise RetryLaterError(
                f"the key's daily quota is spent; what was collected is saved: run it again "
                f"tomorrow. The service says: {error}"
            ) from None
        except ServiceError as error:
            if time.monotonic() - self.last_word > self.settings.patience_s:
                raise RetryLaterError(
                    f"no answer for {self.settings.patience_s:g} s; last: {error}. Jobs go on at "
                    "the vendor's, and what was collected is saved: run it again later."
                ) from None

    def waiting(self) -> list[Task]:
        """Tasks that need a reply and aren't part of a job."""
        busy = {image for job in self.record.jobs for image in job.images}
        return [
            task
            for task in self.tasks.values()
            if task.path not in busy and task.left(self.gate, self.settings.attempts)
        ]

    def submit_all(self) -> bool:
        """Submit jobs for all that wait; whether anything is left to submit later."""
        waiting = self.waiting()
        size = self.settings.batch_images
        for start in range(0, len(waiting), size):
            self.patiently(lambda part=waiting[start : start + size]: self.submit(part))  # type: ignore[misc]
        return bool(self.waiting())

    def submit(self, tasks: Sequence[Task]) -> None:
        """One job, with as many of the tasks as the budget allows."""
        names = sorted(self.clients)
        key = names[self.turn % len(names)]
        self.turn += 1
        client = self.clients[key]
        job = Job(f"abo-vqa-{uuid.uuid4().hex[:12]}", key, {}, 0.0)
        lines = self.journal.path.with_suffix(".request.jsonl.tmp")
        with atomic_write(lines) as temporary, temporary.open("w", encoding="utf-8") as out:
            for task in tasks:
                self.add(job, task, client, out)
        if not job.images:
            return
        try:
            self.record.jobs.append(job)
            self.record.save()
            job.name = client.submit(job.label, lines)
        except ServiceError as error:
            # It may exist all the same: the answer to its creation may be what got lost.
            job.name = client.find(job.label) if error.billed else ""
            if not job.name:
                self.record.jobs.remove(job)
                raise
        finally:
            self.record.save()
            lines.unlink()

    def add(self, job: Job, task: Task, client: Batches, out: Any) -> None:
        """Write a task's request into the job's file, if its picture and the budget allow."""
        request = request_for(task, self.system, b"", self.gate)
        tokens = self.estimator.at_most(request)
        cost = most_expensive(tokens, self.settings, self.settings.batch_price)
        committed = self.cost + job.cost + sum(other.cost for other in self.record.jobs)
        budget = self.settings.budget_usd
        if budget is not None and committed + cost > budget:
            if not job.images and not self.record.jobs:
                raise UserError(
                    f"generate.budget_usd: the next job might exceed {budget:g} USD; "
                    f"{self.cost:.4f} are spent. Everything is saved: raise it and run again."
                )
            return
        try:
            image = picture(self.archive, task.path, self.settings.image_size)
        except ImageError as error:
            task.dead = f"unreadable: {error.reason}"
            return
        body = rest_request(client.annotator, Request(self.system, request.text, image))
        out.write(json.dumps({"key": task.path, "request": body}) + "\n")
        job.images[task.path] = task.key
        job.cost += cost

    def poll(self, job: Job) -> None:
        """Look after a job; collect its answers if it is done."""
        client = self.clients[job.key]
        state, file, said = client.state(job.name)
        if state in RUNNING:
            return
        stop: Exception | None = None
        if state in _GOOD and file:
            stop = self.collect(job, client, file)
            self.failed_jobs = 0
        else:
            self.failed_jobs += 1
        self.record.jobs.remove(job)
        self.record.save()
        if stop:
            raise stop
        if self.failed_jobs >= _MOST_FAILURES:
            raise UserError(
                f"{self.failed_jobs} batch jobs in a row ended as {state}"
                + (f": {said}" if said else "")
                + ". See the vendor's console, or set generate.batch: false. What was collected "
                "is saved."
            )

    def collect(self, job: Job, client: Batches, file: str) -> Exception | None:
        """Journal a job's answers; those that a killed run has journaled already are skipped.

        Returns:
            why no further job makes sense: what failed isn't the pictures' own fault, and isn't
            journaled. The job is done all the same.
        """
        known = {entry.image for entry in self.journal.entries if entry.job == job.label}
        unseen = dict.fromkeys(path for path in job.images if path not in known)
        failed: list[tuple[str, ServiceError]] = []
        stop: Exception | None = None
        for path, response, error in client.answers(file):
            if path not in unseen:
                continue
            del unseen[path]
            if response is None:
                failed.append((path, _line_trouble(client, error)))
                stop = stop or self.failure(*failed[-1])
            else:
                stop = self.answered(job, path, response) or stop
        for path in unseen:
            failed.append((path, ServiceError("the job's file has no line for it")))
            stop = stop or self.failure(*failed[-1])
        if failed and not stop and not self.drop_failing and not self.failures.good:
            stop = UserError(f"not one request was answered: {failed[-1][1]}. {_NOT_THE_PICTURES}")
        if not stop:
            self.write_failures(job, failed)
        return stop

    def answered(self, job: Job, path: str, response: Any) -> Exception | None:
        """Journal an answer; returns why to stop if it ends a streak of answers without pairs."""
        task = self.tasks.get(path)
        if task is None or task.key != job.images[path]:
            task = None  # the input table has changed since
        entry = self.entry(job, path, task, response)
        self.journal.append(entry)
        self.cost += usd(entry.usage, self.settings, entry.price)
        self.estimator.largest = max(self.estimator.largest, entry.usage.input)
        first = bool(task and task.replies == 0)
        if task:
            task.absorb(entry, self.gate)
        left = sum(t.left(self.gate, self.settings.attempts) for t in self.tasks.values())
        self.shown(left, self.cost)
        self.failures.success()
        kind = fruitless(entry) if task else ""
        if not kind:
            self.fruitless.success()
        elif first:
            self.fruitless.failure(path, kind)
        if kind and first and self.fruitless.hopeless and not self.drop_failing:
            return UserError(in_a_row(len(self.fruitless.kinds), kind, self.settings))
        return None

    def failure(self, path: str, error: ServiceError) -> Exception | None:
        """Count a request without an answer; returns why to stop if it isn't the picture."""
        self.failures.failure(path, gist(str(error)))
        if isinstance(error, InvalidKeyError):
            return UserError(f"{error}. {_NOT_THE_PICTURES}")
        if self.drop_failing or not self.failures.hopeless:
            return None
        said = f"{len(self.failures.kinds)} requests in a row failed: {error}"
        if isinstance(error, RequestRefusedError):
            return UserError(
                f"{said}. {_NOT_THE_PICTURES} If it is those pictures' own fault: abo-vqa generate "
                "--drop-failing."
            )
        return RetryLaterError(f"{said}. No picture is given up for this: run it again later.")

    def write_failures(self, job: Job, failed: Sequence[tuple[str, ServiceError]]) -> None:
        """Journal failures that are the pictures' own: refusals for good, others as a round."""
        for path, error in failed:
            final = isinstance(error, RequestRefusedError)
            problem = f"{'refused' if final else 'failed'}: {error}"
            if final and self.drop_failing:
                problem = f"{DROPPED}: {error}"
            entry = Entry(path, job.images[path], problem=problem, time=now(), job=job.label)
            self.journal.append(entry)
            task = self.tasks.get(path)
            if task and task.key == job.images[path]:
                task.absorb(entry, self.gate)

    def entry(self, job: Job, path: str, task: Task | None, response: Any) -> Entry:
        """One answer as the journal keeps it; without a task it is kept unjudged."""
        key, share = job.images[path], self.settings.batch_price
        reply = to_reply(response)
        if task:
            return to_entry(task, reply, self.gate, share, job.label)
        offered = tuple(Reject(p.question, p.answer, "unjudged") for p in parse(reply.text))
        return Entry(
            path, key, (), offered, reply.finish, "", reply.usage, share, reply.model, now(),
            job.label,
        )  # fmt: skip


def run_batches(
    settings: GenerateConfig,
    system: str,
    gate: Gate,
    made: Sequence[tuple[str, Annotator]],
    journal: Journal,
    archive: Archive,
    tasks: Sequence[Task],
    shown: Callable[[int, float], None],
    drop_failing: bool = False,
) -> None:
    """Ask for all tasks by batch jobs; see `BatchRun.run`."""
    BatchRun(settings, system, gate, made, journal, archive, tasks, shown, drop_failing).run()
