"""The annotators of `generate.annotator`: each turns products into annotations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from abo_vqa.annotate.annotations import PROVENANCE_COLUMNS, Annotations
from abo_vqa.annotate.counts import count_reasons
from abo_vqa.annotate.inputs import unreadable_images
from abo_vqa.annotate.model_run import annotate
from abo_vqa.annotate.offline import OfflineAnnotator
from abo_vqa.annotate.own_table import read_own_table
from abo_vqa.annotate.quality_filter import QualityFilter
from abo_vqa.core.errors import UserError
from abo_vqa.core.local_annotator import LOCAL
from abo_vqa.core.summary import Log
from abo_vqa.core.text_list import TextList
from abo_vqa.data.archive import open_archive
from abo_vqa.data.pairs import REASONS, REVIEW, Pair, Product, Reject

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


def run_annotator(
    config: Config, products: Sequence[Product], quality_filter: QualityFilter, log_metrics: Log
) -> Annotations:
    """Annotate with the configured annotator.

    Args:
        config: `generate.annotator` and its settings.
        products: the balanced table's rows.
        quality_filter: judges pairs.
        log_metrics: takes metrics during the run.
    """
    return ANNOTATORS[config.generate.annotator](config, products, quality_filter, log_metrics)


def _annotate_offline(
    config: Config, products: Sequence[Product], quality_filter: QualityFilter, _log_metrics: Log
) -> Annotations:
    """Return pairs from the catalogue's attributes."""
    share = 0.5 if config.generate.yes_share is None else config.generate.yes_share
    annotator = OfflineAnnotator(products, share, config.seed)
    with open_archive(config.data.raw) as archive:
        paths = TextList(product["image_path"] for product in products)
        unreadable = unreadable_images(archive, paths)
    annotations = Annotations(len(products))
    for product in products:
        if product["image_path"] in unreadable:
            annotations.leave_out(product["image_path"], "unreadable")
            continue
        pairs: list[Pair] = []
        for candidate in annotator.candidates(product):
            accepted, rejects = quality_filter.filter_pairs([candidate], product, pairs)
            pairs += accepted
            if len(pairs) == quality_filter.questions:
                break
            # Drawing the same question twice isn't a reject worth recording.
            annotations.add_rejects(
                product["image_path"], (r for r in rejects if r.reason != "duplicate")
            )
        if len(pairs) < quality_filter.questions:
            annotations.leave_out(product["image_path"], "too_few_good_pairs", pairs)
            continue
        annotations.add_pairs(product, pairs, "offline")
    return annotations


def _take_own_table(
    config: Config, products: Sequence[Product], quality_filter: QualityFilter, _log_metrics: Log
) -> Annotations:
    """Return the rows of a user's own table as they are; what the filter finds is only reported."""
    path = config.generate.file
    if path is None:
        raise UserError("generate.annotator is 'file' but generate.file names no table")
    with open_archive(config.data.raw) as archive:
        table = read_own_table(path, archive, products, PROVENANCE_COLUMNS)
    images = len({row["image_path"] for row in table.rows} | table.dropped.keys())
    annotations = Annotations(images, dropped=list(table.dropped.values()), notes=table.notes)
    if table.dropped:
        annotations.notes.append(
            f"warning: {table.dropped_rows:,} rows are left out with {len(table.dropped):,} images"
        )
    known = {product["image_path"]: product for product in products}
    for row in table.rows:
        image = row["image_path"]
        pair = Pair(row["question"], row["answer"])
        reason = quality_filter.reject_reason(pair, known.get(image, {"image_path": image}))
        if reason == REVIEW:
            annotations.add_rejects(image, [Reject(pair.question, pair.answer, reason)])
            continue
        if reason:
            annotations.flagged.append(reason)
        annotations.rows.append(row)
    if flagged := annotations.flagged:
        counted = count_reasons(flagged).items()
        reasons = "; ".join(f"{n:,}: {REASONS[reason]}" for reason, n in counted)
        annotations.notes.append(
            f"warning: {len(flagged):,} rows are kept that would be rejected from another "
            f"annotator. {reasons}"
        )
    return annotations


def _annotate_by_model(
    config: Config, products: Sequence[Product], quality_filter: QualityFilter, log_metrics: Log
) -> Annotations:
    """Return a model's pairs, sorted so that the order of replies doesn't matter."""
    result = annotate(config, products, quality_filter, log_metrics)
    known = config.generate.annotator == LOCAL or config.generate.prices
    cost = {"cost_usd": result.cost} if known else {}
    annotations = Annotations(len(products), metrics={**cost, **result.tokens})
    for task in result.tasks:
        annotations.add_rejects(task.image_path, task.rejects)
        if task.drop_reason:
            annotations.leave_out(task.image_path, task.drop_reason, task.pairs)
            continue
        pairs = sorted(task.pairs, key=lambda pair: (pair.question, pair.answer))
        annotations.add_pairs(task.product, pairs, config.generate.model)
    return annotations


_Annotator = Callable[["Config", Sequence[Product], QualityFilter, Log], Annotations]
ANNOTATORS: dict[str, _Annotator] = {
    "offline": _annotate_offline,
    "file": _take_own_table,
    "local": _annotate_by_model,
    "gemini": _annotate_by_model,
    "gemini-legacy": _annotate_by_model,
    "openai": _annotate_by_model,
}
