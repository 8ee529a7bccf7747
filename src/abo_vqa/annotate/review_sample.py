"""The pairs on the pages for reviewers: whole images, drawn by the seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from abo_vqa.annotate.draws import DRAWN_COLUMN, RANDOM, SUSPICIOUS, parse_drawn
from abo_vqa.annotate.reviews import Reviews
from abo_vqa.annotate.verification.effects import before_reviews
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import GENERATED, REJECTS, TEST, TRAIN, VERIFICATION, VQA
from abo_vqa.core.tables import read_table
from abo_vqa.data.archive import Archive
from abo_vqa.data.columns import read_columns
from abo_vqa.data.image_paths import ImageIndex

PAGE_PAIRS = 200  # on a page, by default
OVERLAP = 0.25  # of a page's pairs are on all pages, by default

_COLUMNS = ("image_path", "question", "answer")


@dataclass(frozen=True)
class ReviewPlan:
    """Which pairs are reviewed by whom.

    Attributes:
        sample: about how many pairs are on a page; whole images are drawn at random, by the seed.
        raters: how many pages.
        overlap: share of a page's pairs that are on all pages; no other image is on two pages.
    """

    sample: int = PAGE_PAIRS
    raters: int = 1
    overlap: float = OVERLAP


@dataclass(frozen=True)
class SampledPair:
    """A pair to review, and how it was drawn (see `draws`)."""

    question: str
    answer: str
    drawn: str


@dataclass(frozen=True)
class Card:
    """An image with its pairs."""

    image_path: str
    pairs: Sequence[SampledPair]


@dataclass(frozen=True)
class ReviewSample:
    """What people are asked to review.

    Attributes:
        pages: the cards of each page.
        left_out: how many images of the table aren't drawn because people have reviewed them.
    """

    pages: Sequence[Sequence[Card]]
    left_out: int


def draw_sample(
    table: Path, archive: Archive, plan: ReviewPlan, seed: int, reviews: Reviews
) -> ReviewSample:
    """Draw whole images until each page has enough pairs, the common images first.

    Args:
        table: the set, or any table with images of the archive.
        archive: the images.
        plan: how many pairs and pages.
        seed: of the draw.
        reviews: what people have decided already.

    Raises:
        UserError: there are no pairs, or too few for several pages.
    """
    rows = _read_pairs(table, archive)
    done = {drawn: reviews.images_left_out(drawn) for drawn in (RANDOM, SUSPICIOUS)}
    by_image: dict[str, list[SampledPair]] = {}
    for image, pair in rows:
        if image not in done[pair.drawn]:
            by_image.setdefault(image, []).append(pair)
    if not by_image:
        raise UserError("people have reviewed every image of the table." if rows else
                        "the table has no pairs to review.")  # fmt: skip
    images = sorted(by_image)
    random.Random(seed).shuffle(images)
    left = [Card(image, by_image[image]) for image in images]
    pages = _divide(left, plan)
    if pages is None:
        total = sum(len(card.pairs) for card in left)
        raise UserError(
            f"{total:,} pairs aren't enough for {plan.raters} pages of {plan.sample} of which "
            f"{plan.overlap:.0%} are common. {_what_fits(left, plan)}"
        )
    return ReviewSample(pages, len({image for image, _ in rows} - by_image.keys()))


def filter_note(table: Path) -> str:
    """Return what the filters of the stage `verify` mean for a page, or "".

    Args:
        table: what the page was drawn from.
    """
    record = read_json(VERIFICATION) if VERIFICATION.is_file() else {}
    if not record or record["kept"] == record["pairs"]:
        return ""
    if table in (TRAIN, TEST):
        return (
            f"warning: {table} has only pairs that the filters in use keep. Once they keep more, "
            "these pairs are no random sample of the set. Without --vqa, a page is drawn from all "
            "pairs, and stays valid whatever the filters."
        )
    if table not in (VQA, GENERATED):
        return ""
    share = record["kept"] / record["pairs"]
    return (
        f"The page is drawn from all {record['pairs']:,} pairs, so that it stays valid whatever "
        f"the filters. Those in use keep {share:.0%} of them, and how much can be right at most "
        "is computed from as large a part of the page."
    )


def _read_pairs(table: Path, archive: Archive) -> list[tuple[str, SampledPair]]:
    """Return the images and pairs of a table.

    Of the set, these are all pairs as the annotator wrote them. Without those that the filters in
    use leave out, a page would say nothing of what other filters keep; and without those that
    people have rejected or corrected because they are suspicious, it would find too few wrong.
    """
    if table in (VQA, GENERATED):
        frame = read_table(GENERATED, _COLUMNS)
        if REJECTS.exists():
            rejects = read_table(REJECTS, (*_COLUMNS, "reason")).drop_duplicates()
            frame = before_reviews(frame, rejects)
        return [
            (image, SampledPair(question, answer, RANDOM))
            for image, question, answer in frame[list(_COLUMNS)].itertuples(index=False)
        ]
    return _read_other(table, archive)


def _read_other(table: Path, archive: Archive) -> list[tuple[str, SampledPair]]:
    """Return the pairs of another table than the set, with the archive's names of the images.

    Raises:
        UserError: the table or an image can't be used.
    """
    columns = read_columns(table, _COLUMNS)
    frame = columns.frame
    index = ImageIndex(archive.image_paths())
    match = index.match(frame["image_path"].tolist())
    match.require(str(archive.raw), index)
    drawn = [RANDOM] * len(frame)
    if DRAWN_COLUMN in frame:
        cells = zip(frame[DRAWN_COLUMN], columns.lines, strict=True)
        drawn = [parse_drawn(text, f"{table}, {columns.unit} {line}") for text, line in cells]
    rows = zip(match.paths, frame["question"], frame["answer"], drawn, strict=True)
    return [(path, SampledPair(*pair)) for path, *pair in rows if path is not None]


def _divide(left: Sequence[Card], plan: ReviewPlan) -> list[list[Card]] | None:
    """Divide images, each with its pairs, among the pages; None if they are too few."""
    images = iter(left)

    def take(cards: list[Card], pairs: float) -> list[Card]:
        """Add images until there are so many pairs."""
        taken = list(cards)
        while sum(len(card.pairs) for card in taken) < pairs:
            if (following := next(images, None)) is None:
                break
            taken.append(following)
        return taken

    common = take([], plan.overlap * plan.sample) if plan.raters > 1 else []
    pages = [take(common, plan.sample) for _ in range(plan.raters)]
    shortest = sum(len(card.pairs) for card in pages[-1])
    # One page, or the same on each, may have all that there are.
    if plan.raters > 1 and plan.overlap < 1 and shortest < plan.sample:
        return None
    return pages


def _what_fits(left: Sequence[Card], plan: ReviewPlan) -> str:
    """Return the advice that can be followed: the largest sample, or all pairs on each page."""
    sizes = [len(card.pairs) for card in left]
    # Of whole images, the common part is larger than its share, by less than one of them.
    most = sum(sizes) + plan.raters * max(sizes)
    bound = int(most / (plan.overlap + plan.raters * (1 - plan.overlap)))
    samples = range(min(plan.sample - 1, bound), 0, -1)
    largest = next((s for s in samples if _divide(left, replace(plan, sample=s))), None)
    everything = "--overlap 1 puts all pairs on each page."
    return f"Use --sample {largest} at most; {everything}" if largest else everything
