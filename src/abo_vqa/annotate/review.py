"""Pages on which people keep, reject or correct pairs; `reviews` reads what they save."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from abo_vqa.annotate.quality_filter import ARTICLES, MAX_ANSWER_LENGTH, UNKNOWN_ANSWERS
from abo_vqa.annotate.review_sample import Card, ReviewPlan, draw_sample
from abo_vqa.annotate.reviews import Reviews
from abo_vqa.core.files import atomic_write
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.page_policy import page_policy
from abo_vqa.data.archive import Archive, open_archive
from abo_vqa.data.image_files import ImageError

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class ReviewPages:
    """What was written.

    Attributes:
        pairs: page → how many pairs are on it.
        left_out: how many images of the table aren't drawn because people have reviewed them.
        common: how many pairs are on all pages.
    """

    pairs: Mapping[Path, int]
    left_out: int
    common: int


def write_review_pages(
    table: Path, config: Config, plan: ReviewPlan, page: Path, reviews: Reviews
) -> ReviewPages:
    """Write self-contained pages: images, data and script are in them.

    Args:
        table: the VQA table, or any table with images of the archive.
        config: the seed, and the archive's folder.
        plan: how many pairs and pages.
        page: the page to write; of several, the pages' names get numbers.
        reviews: what people have decided already.

    Raises:
        UserError: there are no pairs, or too few for all pages.
    """
    with open_archive(config.data.raw) as archive:
        sample = draw_sample(table, archive, plan, config.seed, reviews)
        paths = [page]
        if plan.raters > 1:
            paths = [page.with_stem(f"{page.stem}-{i + 1}") for i in range(plan.raters)]
        for path, cards in zip(paths, sample.pages, strict=True):
            data_urls = [_data_url(archive, card.image_path) for card in cards]
            with atomic_write(path) as temporary:
                html = _render(cards, data_urls)
                temporary.write_text(html, encoding="utf-8", newline="\n")
    pairs = {
        path: sum(len(card.pairs) for card in cards)
        for path, cards in zip(paths, sample.pages, strict=True)
    }
    shared = set.intersection(*({card.image_path for card in cards} for cards in sample.pages))
    common = sum(len(card.pairs) for card in sample.pages[0] if card.image_path in shared)
    return ReviewPages(pairs, sample.left_out, common)


def _data_url(archive: Archive, image_path: str) -> str:
    """Return an image as an address that holds it; "" if it can't be read."""
    try:
        return "data:image/jpeg;base64," + base64.b64encode(archive.jpeg(image_path)).decode()
    except ImageError:
        return ""


def _render(cards: Sequence[Card], data_urls: Sequence[str]) -> str:
    """Return a page's HTML, which may run nothing but its own script."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    sampled = [(card.image_path, pair) for card in cards for pair in card.pairs]
    pairs = [[image, pair.question, pair.answer] for image, pair in sampled]
    drawn = [pair.drawn for _, pair in sampled]
    limits = {
        "length": MAX_ANSWER_LENGTH,
        "articles": sorted(ARTICLES),
        "unknown": sorted(UNKNOWN_ANSWERS),
    }
    style, script = ((_TEMPLATES / f"review.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return environment.get_template("review.html.j2").render(
        cards=zip(cards, data_urls, strict=True),
        count=len(pairs),
        data={
            "page": fingerprint([pairs, drawn]),
            "pairs": pairs,
            "drawn": drawn,
            "limits": limits,
        },
        policy=page_policy(style, script),
        style=style,
        script=script,
    )
