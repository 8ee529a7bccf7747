"""What each annotator makes of the products."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from abo_vqa.annotate.gate import Gate
from abo_vqa.annotate.given import read_given, unreadable
from abo_vqa.core.errors import UserError
from abo_vqa.core.summary import Log
from abo_vqa.data.archive import open_archive
from abo_vqa.data.pairs import Pair, Product, Reject

if TYPE_CHECKING:
    from abo_vqa.config import Config


_PROVENANCE = ("image_id", "item_id", "product_type", "image_sha1", "phash")


@dataclass
class Annotations:
    """What an annotator made of the products: rows of the set, rejects, images left out.

    Attributes:
        images: how many it was given. dropped: a reason an image.
        flagged: what the gate would have said of rows that a table of one's own has all the same.
        notes: lines for the terminal.
    """

    images: int
    rows: list[dict[str, str]] = field(default_factory=list)
    rejects: list[dict[str, str]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    flagged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)

    def add(self, product: Product, pairs: Iterable[Pair], annotator: str) -> None:
        origin = {name: product.get(name, "") for name in _PROVENANCE}
        self.rows += [
            {
                "image_path": product["image_path"],
                "question": pair.question,
                "answer": pair.answer,
                **origin,
                "question_kind": pair.kind,
                "annotator": annotator,
            }
            for pair in pairs
        ]

    def reject(self, path: str, rejects: Iterable[Reject]) -> None:
        self.rejects += [
            {"image_path": path, "question": r.question, "answer": r.answer, "reason": r.reason}
            for r in rejects
        ]


def offline(config: Config, products: Sequence[Product], gate: Gate) -> Annotations:
    """Pairs from the catalogue's attributes."""
    from abo_vqa.annotate.offline import OfflineAnnotator

    share = 0.5 if config.generate.yes_share is None else config.generate.yes_share
    annotator = OfflineAnnotator(products, share, config.seed)
    with open_archive(config.data.raw) as archive:
        bad = unreadable(archive, [product["image_path"] for product in products])
    made = Annotations(len(products))
    for product in products:
        if product["image_path"] in bad:
            made.dropped.append("unreadable")
            continue
        pairs: list[Pair] = []
        for candidate in annotator.candidates(product):
            accepted, rejects = gate.sift([candidate], product, pairs)
            pairs += accepted
            if len(pairs) == gate.questions:
                break
            # A repeated draw is no fault of the set's.
            made.reject(product["image_path"], (r for r in rejects if r.reason != "duplicate"))
        if len(pairs) < gate.questions:
            made.dropped.append("too_few_good_pairs")
            continue
        made.add(product, pairs, "offline")
    return made


def given(config: Config, products: Sequence[Product], gate: Gate) -> Annotations:
    """An existing table, as it is; the gate's findings are only reported."""
    path = config.generate.file
    if path is None:
        raise UserError("generate.annotator is 'file' but generate.file names no table")
    with open_archive(config.data.raw) as archive:
        table = read_given(path, archive, products, _PROVENANCE)
    images = len({row["image_path"] for row in table.rows} | table.lost.keys())
    made = Annotations(images, dropped=list(table.lost.values()), notes=table.notes)
    if table.lost:
        made.notes.append(
            f"warning: {table.lost_rows:,} rows are left out with {len(table.lost):,} pictures"
        )
    known = {product["image_path"]: product for product in products}
    for row in table.rows:
        image = row["image_path"]
        pair = Pair(row["question"], row["answer"])
        reason = gate.fault(pair, known.get(image, {"image_path": image}))
        if reason == "review":
            made.reject(image, [Reject(pair.question, pair.answer, reason)])
            continue
        if reason:
            made.flagged.append(reason)
        made.rows.append(row)
    return made


def remote(config: Config, products: Sequence[Product], gate: Gate, log: Log) -> Annotations:
    """Pairs by a paid model, sorted by question so that the order of replies doesn't show."""
    from abo_vqa.annotate.remote import annotate

    work = annotate(config, products, gate, log)
    made = Annotations(len(products), metrics={"cost_usd": work.cost, **work.tokens})
    for task in work.tasks:
        made.reject(task.path, task.rejects)
        why = task.outcome(gate, config.generate.attempts)
        if why:
            made.dropped.append(why)
            continue
        pairs = sorted(task.pairs, key=lambda pair: (pair.question, pair.answer))
        made.add(task.product, pairs, config.generate.model)
    return made
