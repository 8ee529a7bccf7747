"""One image on its way to its pairs, restored from the journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from abo_vqa.annotate.prompt import clean_product, user_text, yes_no_hint
from abo_vqa.annotate.quality_filter import QualityFilter
from abo_vqa.annotate.replies import parse_pairs
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.local_annotator import LOCAL
from abo_vqa.data.normalise import normalise
from abo_vqa.data.pairs import REVIEW, Pair, Product, Reject, reply_schema
from abo_vqa.remote.contract import Reply, Request
from abo_vqa.remote.history import empty_reply_kind, is_persistent
from abo_vqa.remote.journal import (
    CUT_OFF_REASON,
    JournalEntry,
    group_by_image,
    no_pairs_reason,
    timestamp,
)

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

_MAX_FAILURES = 3  # how often an image may be recorded as failed before it is dropped
_MAX_EMPTY_REPLIES = 3  # replies without a pair, all for the same reason, before it is dropped
_MAX_REPEATS = 2  # replies in a row that bring nothing new, before it is dropped
CUT_OFF = "too_few (MAX_TOKENS)"
"""What `Task.shortfall` returns for a reply that reached the output limit too early."""


@dataclass
class Task:
    """One image on its way to its pairs.

    Attributes:
        product: the image's row of the balanced table.
        key: fingerprint of what the replies depend on besides the settings.
        yes_no: the answer that a yes/no question should have, "" if it doesn't matter.
        quality_filter: judges pairs, and says how many an image needs.
        attempts: replies to ask for at most.
        repeatable: whether asking for the same again may bring another reply.
        pairs: accepted pairs of all replies so far.
        rejects: rejected pairs, and reasons for replies without pairs.
        replies: number of replies.
        is_stuck: whether the last reply left everything as it was: the next request is the same.
        failures: how often the image was recorded as failed.
        empty_reason: why the last reply held no pair at all; "" if it did.
        empty_replies: replies in a row that were empty for this reason.
        repeats: replies in a row with no pair that wasn't there before. Empty ones count if asking
            again hardly helps.
        is_cut_off: whether the last reply reached the output limit before it held what was asked.
        problem: why the image is never asked about again, or "".
        failed_tries: failed requests since the last reply or recorded failure.
        answers_before: replies to all images when the first of those tries failed.
    """

    product: Product
    key: str
    yes_no: str
    quality_filter: QualityFilter
    attempts: int
    repeatable: bool = True
    pairs: list[Pair] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    replies: int = 0
    is_stuck: bool = False
    failures: int = 0
    empty_reason: str = ""
    empty_replies: int = 0
    repeats: int = 0
    is_cut_off: bool = False
    problem: str = ""
    failed_tries: int = 0
    answers_before: int = 0

    @property
    def image_path(self) -> str:
        """The image's path in the archive."""
        return self.product["image_path"]

    @property
    def is_complete(self) -> bool:
        """Whether the image has its pairs."""
        return len(self.pairs) >= self.quality_filter.questions

    @property
    def is_open(self) -> bool:
        """Whether pairs are missing and another request may bring them."""
        return not (
            self.is_complete
            or self.problem
            or self.replies >= self.attempts
            or (self.is_stuck and not self.repeatable)
            or self.failures >= _MAX_FAILURES
            or self.empty_replies >= _MAX_EMPTY_REPLIES
            or self.repeats >= _MAX_REPEATS
        )

    @property
    def _missing(self) -> int:
        """The number of pairs that the image lacks."""
        return self.quality_filter.questions - len(self.pairs)

    def shortfall(self, entry: JournalEntry) -> str:
        """Return how a reply fails to bring what was asked for, or "".

        Args:
            entry: the reply, not taken into account yet.
        """
        return CUT_OFF if self._is_cut_off(entry) else empty_reply_kind(entry)

    def _is_cut_off(self, entry: JournalEntry) -> bool:
        return entry.finish == CUT_OFF_REASON and len(entry.candidates) < self._missing

    def update(self, entry: JournalEntry) -> None:
        """Take an entry of the journal into account, by the quality filter's present rules."""
        if entry.is_ignored:
            return
        if entry.is_outgrown:  # its pairs are paid for
            self._take_pairs(entry)
            return
        if entry.problem.startswith("failed"):
            self.failures += 1
            return
        self.replies += 1
        if entry.is_final:
            self.problem = entry.problem
            return
        missing, self.is_cut_off = self._missing, self._is_cut_off(entry)
        reason = "" if entry.candidates else no_pairs_reason(entry)
        self._count_repeats(entry.candidates, reason)
        accepted, rejects = self._take_pairs(entry)
        self.is_stuck = not accepted and all(reject.reason != REVIEW for reject in rejects)
        repeated = bool(reason) and reason == self.empty_reason
        self.empty_replies = self.empty_replies + 1 if repeated else int(bool(reason))
        self.empty_reason = reason
        if reason:
            self.rejects.append(Reject("", "", reason))
        elif len(entry.candidates) < missing:
            self.rejects.append(Reject("", "", "too_few"))

    def _take_pairs(self, entry: JournalEntry) -> tuple[list[Pair], list[Reject]]:
        """Judge the pairs of a reply, and keep them; return the accepted and the rejected ones."""
        accepted, rejects = self.quality_filter.filter_pairs(
            entry.candidates, self.product, self.pairs
        )
        self.pairs += accepted
        self.rejects += rejects
        return accepted, rejects

    def _count_repeats(self, candidates: Iterable[Pair], empty_reason: str) -> None:
        """Count a reply if it brings nothing that earlier ones haven't brought."""
        if empty_reason:
            self.repeats += is_persistent(empty_reason)
            return
        known = {*map(_content, self.pairs), *map(_content, self.rejects)}
        is_repeat = all(_content(pair) in known for pair in candidates)
        self.repeats = self.repeats + 1 if is_repeat else 0

    @property
    def drop_reason(self) -> str:
        """Why the image isn't in the set, or "" if it is."""
        if self.is_complete:
            return ""
        if self.problem:
            return self.problem.partition(":")[0]
        if self.failures >= _MAX_FAILURES and self.replies < self.attempts:
            return "failed"
        return "open" if self.is_open else "too_few_good_pairs"

    def request(self, system: str, image: bytes = b"") -> Request:
        """Return the request for the pairs that are missing.

        Args:
            system: the system instruction.
            image: the encoded image; without it the request serves to estimate tokens.
        """
        total = self.quality_filter.questions
        # What people rejected would be answered alike a second time.
        rejected = {r.question: Pair(r.question, "") for r in self.rejects if r.reason == REVIEW}
        taken = [*self.pairs, *rejected.values()]
        text = user_text(self.product, self._missing, taken, self.yes_no, total)
        return Request(system, text, image, reply_schema())

    def entry(self, reply: Reply, price: float = 1.0, job: str = "") -> JournalEntry:
        """Return a reply as the journal keeps it.

        Args:
            reply: the reply.
            price: share of the list price.
            job: the batch job that it came with, or "".
        """
        accepted, rejects = self.quality_filter.filter_pairs(
            parse_pairs(reply.text), self.product, self.pairs
        )
        return reply_entry(self.image_path, self.key, reply, accepted, rejects, price, job)


def _content(pair: Pair | Reject) -> tuple[str, str]:
    """Return what two pairs have in common that say the same."""
    return normalise(pair.question), normalise(pair.answer)


def reply_entry(
    image_path: str,
    key: str,
    reply: Reply,
    pairs: Iterable[Pair],
    rejects: Iterable[Reject],
    price: float = 1.0,
    job: str = "",
) -> JournalEntry:
    """Return the journal's entry for a reply.

    Args:
        image_path: the image.
        key: its task's key.
        reply: the reply.
        pairs: what the quality filter accepted.
        rejects: what it rejected.
        price: share of the list price.
        job: the batch job that the reply came with, or "".
    """
    return JournalEntry(
        image_path,
        key,
        tuple(pairs),
        tuple(rejects),
        finish=reply.finish,
        problem=f"blocked: {reply.blocked}" if reply.blocked else "",
        usage=reply.usage,
        price=price,
        model=reply.model,
        time=timestamp(),
        job=job,
    )


def task_key(product: Product) -> str:
    """Return a fingerprint of what replies depend on besides the settings: catalogue and image."""
    brand = product.get("brand", "")  # the quality filter uses it
    return fingerprint([clean_product(product), brand, product.get("image_sha1", "")])


def make_tasks(
    products: Iterable[Product],
    entries: Sequence[JournalEntry],
    quality_filter: QualityFilter,
    config: Config,
) -> list[Task]:
    """Return one task per product, with what the journal holds about it.

    Args:
        products: rows of the balanced table.
        entries: the journals' entries.
        quality_filter: judges the pairs.
        config: the seed, and generate's settings.
    """
    settings = config.generate
    groups: Mapping[tuple[str, str], list[JournalEntry]] = group_by_image(entries)
    repeatable = settings.annotator != LOCAL or settings.temperature > 0
    tasks = []
    for product in products:
        hint = yes_no_hint(product["image_path"], config.seed, settings.yes_share)
        task = Task(product, task_key(product), hint, quality_filter, settings.attempts, repeatable)
        for entry in groups.get((task.image_path, task.key), ()):
            task.update(entry)
        tasks.append(task)
    return tasks
