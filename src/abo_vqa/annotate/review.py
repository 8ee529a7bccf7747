"""Pages on which people keep, reject or correct pairs; `reviews` reads what they save."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from abo_vqa.annotate.quality_filter import ARTICLES, MAX_ANSWER_LENGTH, UNKNOWN_ANSWERS
from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_write
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.paths import GENERATED, VQA
from abo_vqa.core.tables import read_table
from abo_vqa.data.archive import Archive, open_archive
from abo_vqa.data.columns import read_columns
from abo_vqa.data.image_files import ImageError
from abo_vqa.data.image_paths import ImageIndex

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

PAGE_PAIRS = 200  # on a page, by default
OVERLAP = 0.25  # of a page's pairs are on all pages, by default

_COLUMNS = ("image_path", "question", "answer")
_TEMPLATES = Path(__file__).parent / "templates"

_Cards = list[dict[str, Any]]  # {"image_path": …, "pairs": [[question, answer], …]}


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


def write_review_pages(
    table: Path, config: Config, plan: ReviewPlan, page: Path, reviewed: Collection[str] = ()
) -> dict[Path, int]:
    """Write self-contained pages: images, data and script are in them.

    Args:
        table: the VQA table, or any table with images of the archive.
        config: the seed, and the archive's folder.
        plan: how many pairs and pages.
        page: the page to write; of several, the pages' names get numbers.
        reviewed: images that aren't drawn.

    Returns:
        how many pairs are on each page.

    Raises:
        UserError: there are no pairs, or too few for all pages.
    """
    with open_archive(config.data.raw) as archive:
        rows = _read_pairs(table, archive)
        pages = _draw_images(rows, plan, config.seed, reviewed)
        paths = [page]
        if plan.raters > 1:
            paths = [page.with_stem(f"{page.stem}-{i + 1}") for i in range(plan.raters)]
        for path, cards in zip(paths, pages, strict=True):
            for card in cards:
                card["data_url"] = _data_url(archive, card["image_path"])
            with atomic_write(path) as temporary:
                temporary.write_text(_render(cards), encoding="utf-8", newline="\n")
    return {p: sum(len(card["pairs"]) for card in c) for p, c in zip(paths, pages, strict=True)}


def _read_pairs(table: Path, archive: Archive) -> list[tuple[str, str, str]]:
    """Return the rows of a table; those of another one than the set's with the archive's names."""
    if table in (VQA, GENERATED):
        frame = read_table(table, _COLUMNS)
        paths: Sequence[str | None] = frame["image_path"].tolist()
    else:
        frame = read_columns(table, _COLUMNS).frame
        index = ImageIndex(archive.image_paths())
        match = index.match(frame["image_path"].tolist())
        match.require(str(archive.raw), index)
        paths = match.paths
    rows = zip(paths, frame["question"], frame["answer"], strict=True)
    return [(path, question, answer) for path, question, answer in rows if path is not None]


def _draw_images(
    rows: Sequence[tuple[str, str, str]], plan: ReviewPlan, seed: int, reviewed: Collection[str]
) -> list[_Cards]:
    """Draw whole images until each page has enough pairs, the common images first.

    Raises:
        UserError: there are no pairs, or too few for several pages.
    """
    by_image: dict[str, list[list[str]]] = {}
    for image, question, answer in rows:
        by_image.setdefault(image, []).append([question, answer])
    images = sorted(set(by_image) - set(reviewed))
    if not images:
        raise UserError("people have reviewed every image of the table." if by_image else
                        "the table has no pairs to review.")  # fmt: skip
    random.Random(seed).shuffle(images)
    left = [(image, by_image[image]) for image in images]
    pages = _divide(left, plan)
    if pages is None:
        total = sum(len(pairs) for _, pairs in left)
        raise UserError(
            f"{total:,} pairs aren't enough for {plan.raters} pages of {plan.sample} of which "
            f"{plan.overlap:.0%} are common. {_what_fits(left, plan)}"
        )
    return pages


def _divide(left: Sequence[tuple[str, list[list[str]]]], plan: ReviewPlan) -> list[_Cards] | None:
    """Divide images, each with its pairs, among the pages; None if they are too few."""
    images = iter(left)

    def take(cards: _Cards, pairs: float) -> _Cards:
        """Add images until there are so many pairs."""
        taken = list(cards)
        while sum(len(card["pairs"]) for card in taken) < pairs:
            if (following := next(images, None)) is None:
                break
            taken.append({"image_path": following[0], "pairs": following[1]})
        return taken

    common = take([], plan.overlap * plan.sample) if plan.raters > 1 else []
    pages = [take(common, plan.sample) for _ in range(plan.raters)]
    shortest = sum(len(card["pairs"]) for card in pages[-1])
    # One page, or the same on each, may have all that there are.
    if plan.raters > 1 and plan.overlap < 1 and shortest < plan.sample:
        return None
    return [[dict(card) for card in cards] for cards in pages]


def _what_fits(left: Sequence[tuple[str, list[list[str]]]], plan: ReviewPlan) -> str:
    """Return the advice that can be followed: the largest sample, or all pairs on each page."""
    sizes = [len(pairs) for _, pairs in left]
    # Of whole images, the common part is larger than its share, by less than one of them.
    most = sum(sizes) + plan.raters * max(sizes)
    bound = int(most / (plan.overlap + plan.raters * (1 - plan.overlap)))
    samples = range(min(plan.sample - 1, bound), 0, -1)
    largest = next((s for s in samples if _divide(left, replace(plan, sample=s))), None)
    everything = "--overlap 1 puts all pairs on each page."
    return f"Use --sample {largest} at most; {everything}" if largest else everything


def _data_url(archive: Archive, image_path: str) -> str:
    """Return an image as an address that holds it; "" if it can't be read."""
    try:
        return "data:image/jpeg;base64," + base64.b64encode(archive.jpeg(image_path)).decode()
    except ImageError:
        return ""


def _render(cards: _Cards) -> str:
    """Return a page's HTML, which may run nothing but its own script."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    pairs = [[card["image_path"], *pair] for card in cards for pair in card["pairs"]]
    limits = {
        "length": MAX_ANSWER_LENGTH,
        "articles": sorted(ARTICLES),
        "unknown": sorted(UNKNOWN_ANSWERS),
    }
    style, script = ((_TEMPLATES / f"review.{kind}").read_text("utf-8") for kind in ("css", "js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; "
        f"script-src {_source(script)}; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("review.html.j2").render(
        cards=cards,
        count=len(pairs),
        data={"page": fingerprint(pairs), "pairs": pairs, "limits": limits},
        policy=policy,
        style=style,
        script=script,
    )


def _source(text: str) -> str:
    """Return how a content security policy names an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
