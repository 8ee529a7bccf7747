"""The result of annotation: rows of the VQA table, rejects, and images left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from abo_vqa.core.row_list import RowList
from abo_vqa.data.pairs import Pair, Product, Reject

PROVENANCE_COLUMNS = ("image_id", "item_id", "product_type", "image_sha1", "phash")


@dataclass
class Annotations:
    """What an annotator made of the products.

    Attributes:
        images: how many images it was given.
        rows: rows of the VQA table.
        rejects: rows of the table of rejects.
        incomplete: image path, question and answer of accepted pairs that were left out with their
            image, because it has too few.
        replaced: like rejects, of pairs that are in the table with the answer that people gave.
        reviewed: image path, question and answer of pairs that people decided about, as they were
            written, `wrong` (see `reviews.Verdict`), and `drawn` (see `draws`).
        dropped: a reason for each image that was left out.
        flagged: reasons why the quality filter would reject rows that a user's own table keeps.
        notes: lines for the terminal.
        metrics: numbers for MLflow.
    """

    images: int
    rows: RowList = field(default_factory=RowList)
    rejects: RowList = field(default_factory=RowList)
    incomplete: RowList = field(default_factory=RowList)
    replaced: list[dict[str, str]] = field(default_factory=list)
    reviewed: list[dict[str, str]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    flagged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)

    def add_pairs(self, product: Product, pairs: Iterable[Pair], annotator: str) -> None:
        """Add an image's pairs.

        Args:
            product: the image's row of the balanced table.
            pairs: its questions and answers.
            annotator: who wrote them.
        """
        provenance = {name: product.get(name, "") for name in PROVENANCE_COLUMNS}
        self.rows.extend(
            {
                "image_path": product["image_path"],
                "question": pair.question,
                "answer": pair.answer,
                **provenance,
                "question_kind": pair.kind,
                "annotator": annotator,
            }
            for pair in pairs
        )

    def leave_out(self, image_path: str, reason: str, pairs: Iterable[Pair] = ()) -> None:
        """Leave an image out.

        Args:
            image_path: the image.
            reason: why.
            pairs: those that were accepted, but are too few.
        """
        self.dropped.append(reason)
        self.incomplete.extend(
            {"image_path": image_path, "question": pair.question, "answer": pair.answer}
            for pair in pairs
        )

    def add_rejects(self, image_path: str, rejects: Iterable[Reject]) -> None:
        """Add an image's rejected pairs."""
        self.rejects.extend(
            {
                "image_path": image_path,
                "question": r.question,
                "answer": r.answer,
                "reason": r.reason,
            }
            for r in rejects
        )
