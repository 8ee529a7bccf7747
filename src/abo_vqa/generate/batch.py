"""The vendor's batch mode: half the price, answers within a day. Submit, poll, collect, resume.

What was submitted is written down before and after: a job whose creation was interrupted is found
again by its name, so that no image is paid for twice. The jobs' record lies beside the journal;
replies go into the journal itself, marked with their job.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.archive import Archive, ImageError
from abo_vqa.errors import ComeBackLater, UserError
from abo_vqa.generate.asking import to_entry
from abo_vqa.generate.gate import Gate
from abo_vqa.generate.gemini import Gemini, contents, to_reply
from abo_vqa.generate.journal import Entry, Journal, now
from abo_vqa.generate.money import Estimator, most_expensive, spent, usd
from abo_vqa.generate.pairs import Annotator, BadKey, BadModel, Reject, Request, Trouble
from abo_vqa.generate.prompt import parse
from abo_vqa.generate.tasks import Task, picture, request_for
from abo_vqa.io import atomic_write, read_json, write_json

if TYPE_CHECKING:
    from abo_vqa.config import Generate

RUNNING = {"JOB_STATE_UNSPECIFIED", "JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING"}
GOOD = {"JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED"}
MOST_FAILURES = 3  # jobs that fail one after the other


@dataclass
class Job:
    """A batch job.

    Attributes:
        label: its display name, chosen by us before it exists.
        key: the id of the key that it belongs to. name: the vendor's name, once known.
        images: the paths asked about, each with its task's key. cost: USD at most.
    """

    label: str
    key: str
    images: dict[str, str]
    cost: float
    name: str = ""


@dataclass
class Record:
    """The jobs under way, on disk."""

    path: Path
    jobs: list[Job] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Record:
        known = read_json(path) if path.is_file() else []
        return cls(path, [Job(**job) for job in known])

    def save(self) -> None:
        write_json([vars(job) for job in self.jobs], self.path)


class Batches:
    """One key's batch jobs, with typed errors."""

    def __init__(self, annotator: Gemini) -> None:
        self.annotator, self.client = annotator, annotator.client

    def call(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except Exception as error:
            raise self.annotator.translated(error) from None

    def submit(self, label: str, lines: Path) -> str:
        """Upload a JSON-lines file and start a job on it; return the job's name."""
        from google.genai import types

        upload = types.UploadFileConfig(display_name=label, mime_type="jsonl")
        file = self.call(lambda: self.client.files.upload(file=str(lines), config=upload))
        config = types.CreateBatchJobConfig(display_name=label)
        job = self.call(
            lambda: self.client.batches.create(
                model=self.annotator.model, src=file.name, config=config
            )
        )
        return str(job.name)

    def find(self, label: str) -> str:
        """The name of the job with this label, or "" if it was never created."""
        jobs = self.call(lambda: list(self.client.batches.list()))
        return next((str(job.name) for job in jobs if job.display_name == label), "")

    def state(self, name: str) -> tuple[str, str]:
        """(state, name of the file with the answers or "")."""
        job = self.call(lambda: self.client.batches.get(name=name))
        file = job.dest.file_name if job.dest else ""
        return job.state.value if job.state else "JOB_STATE_UNSPECIFIED", file or ""

    def answers(self, file: str) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
        """(image path, response or None, error) of each line of an answer file."""
        from google.genai import types

        data = self.call(lambda: self.client.files.download(file=file))
        for line in data.splitlines():
            item = json.loads(line)
            response = item.get("response")
            yield (
                item["key"],
                types.GenerateContentResponse.model_validate(response) if response else None,
                item.get("error") or {},
            )


def rest_request(annotator: Gemini, request: Request) -> dict[str, Any]:
    """A request as the REST API takes it in a batch file."""
    config = annotator.config.model_dump(mode="json", by_alias=True, exclude_none=True)
    safety = config.pop("safetySettings", None)
    config.pop("automaticFunctionCalling", None)  # the SDK's own affair
    parts = []
    for part in contents(request):
        parts.append(
            {"text": part}
            if isinstance(part, str)
            else part.model_dump(mode="json", by_alias=True, exclude_none=True)
        )
    made: dict[str, Any] = {
        "contents": [{"role": "user", "parts": parts}],
        "systemInstruction": {"parts": [{"text": request.system}]},
        "generationConfig": config,
    }
    return made | ({"safetySettings": safety} if safety else {})


class BatchRun:
    """Brings all tasks to their end by batch jobs."""

    def __init__(
        self,
        settings: Generate,
        system: str,
        gate: Gate,
        made: Sequence[tuple[str, Annotator]],
        journal: Journal,
        archive: Archive,
        tasks: Sequence[Task],
        shown: Callable[[int, float], None],
    ) -> None:
        self.settings, self.system, self.gate = settings, system, gate
        self.journal, self.archive, self.shown = journal, archive, shown
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
        except (BadKey, BadModel) as error:
            raise UserError(f"{error}. Check the API key and generate.model.") from None
        except Trouble as error:
            if time.monotonic() - self.last_word > self.settings.patience_s:
                raise ComeBackLater(
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
        except Trouble as error:
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
        state, file = client.state(job.name)
        if state in RUNNING:
            return
        if state in GOOD and file:
            self.collect(job, client, file)
            self.failed_jobs = 0
        else:
            self.failed_jobs += 1
        self.record.jobs.remove(job)
        self.record.save()
        if self.failed_jobs >= MOST_FAILURES:
            raise UserError(
                f"{self.failed_jobs} batch jobs in a row ended as {state}. See the vendor's "
                "console, or set generate.batch: false. What was collected is saved."
            )

    def collect(self, job: Job, client: Batches, file: str) -> None:
        """Journal a job's answers; those that a killed run has journaled already are skipped."""
        known = {entry.image for entry in self.journal.entries if entry.job == job.label}
        for path, response, error in client.answers(file):
            if path in known or path not in job.images:
                continue
            task = self.tasks.get(path)
            if task is None or task.key != job.images[path]:
                task = None  # the input table has changed since
            entry = self.entry(job, path, task, response, error)
            self.journal.append(entry)
            self.cost += usd(entry.usage, self.settings, entry.price)
            self.estimator.largest = max(self.estimator.largest, entry.usage.input)
            if task:
                task.absorb(entry, self.gate)
            left = sum(t.left(self.gate, self.settings.attempts) for t in self.tasks.values())
            self.shown(left, self.cost)

    def entry(
        self, job: Job, path: str, task: Task | None, response: Any, error: Mapping[str, Any]
    ) -> Entry:
        """One answer as the journal keeps it; without a task it is kept unjudged."""
        key, share = job.images[path], self.settings.batch_price
        if response is None:
            problem = f"failed: {error.get('code', '')} {error.get('message', '')}".strip()
            return Entry(path, key, problem=problem, time=now(), job=job.label)
        reply = to_reply(response)
        if task:
            return to_entry(task, reply, self.gate, share, job.label)
        offered = tuple(Reject(p.question, p.answer, "unjudged") for p in parse(reply.text))
        return Entry(
            path, key, (), offered, reply.finish, "", reply.usage, share, reply.model, now(),
            job.label,
        )  # fmt: skip


def run_batches(
    settings: Generate,
    system: str,
    gate: Gate,
    made: Sequence[tuple[str, Annotator]],
    journal: Journal,
    archive: Archive,
    tasks: Sequence[Task],
    shown: Callable[[int, float], None],
) -> None:
    """Ask for all tasks by batch jobs; see `BatchRun.run`."""
    BatchRun(settings, system, gate, made, journal, archive, tasks, shown).run()
