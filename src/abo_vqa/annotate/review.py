"""Review by people: a page with keep and reject buttons for a sample, and its result."""

from __future__ import annotations

import base64
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_write
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.tables import read_table
from abo_vqa.data.archive import open_archive
from abo_vqa.data.image_files import ImageError

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

PAGE_PAIRS = 200  # on a page, by default

_COLUMNS = ("image_path", "question", "answer", "decision")
_DECISIONS = {"keep", "reject", ""}
_TEMPLATES = Path(__file__).parent / "templates"


def read_rejected(path: Path) -> frozenset[tuple[str, str, str]]:
    """Return the rejected (image path, question, answer) in a CSV that the page saved.

    Args:
        path: the CSV.

    Raises:
        UserError: columns are missing, or a decision is neither keep nor reject.
    """
    rows = read_table(path, _COLUMNS).to_dict("records")
    unknown = sorted({row["decision"] for row in rows} - _DECISIONS)
    if unknown:
        raise UserError(f"{path}: the decision must be keep or reject, found {', '.join(unknown)}.")
    return frozenset(
        (row["image_path"], row["question"], row["answer"])
        for row in rows
        if row["decision"] == "reject"
    )


def write_review_page(vqa: Path, config: Config, sample: int, page: Path) -> int:
    """Write a self-contained page: images, data and script are in it.

    Args:
        vqa: the VQA table.
        config: the seed, and the archive's folder.
        sample: about how many pairs; whole images are drawn at random, by the seed.
        page: the page to write.

    Returns:
        how many pairs are on the page.

    Raises:
        UserError: the sample is empty.
    """
    if sample < 1:
        raise UserError(f"--sample must be at least 1, found {sample}.")
    cards = _sample_images(vqa, sample, config.seed)
    with open_archive(config.data.raw) as archive:
        for card in cards:
            try:
                data = base64.b64encode(archive.jpeg(card["image_path"])).decode()
                card["data_url"] = f"data:image/jpeg;base64,{data}"
            except ImageError:
                card["data_url"] = ""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    count = sum(len(card["pairs"]) for card in cards)
    pairs = [[card["image_path"], *pair] for card in cards for pair in card["pairs"]]
    text = environment.get_template("review.html.j2").render(
        cards=cards, count=count, pairs=pairs, name=fingerprint(pairs)
    )
    with atomic_write(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return count


def _sample_images(vqa: Path, sample: int, seed: int) -> list[dict[str, Any]]:
    """Draw whole images until there are enough pairs.

    Returns:
        [{"image_path": …, "pairs": [[question, answer], …]}, …].
    """
    by_image: dict[str, list[list[str]]] = {}
    for row in read_table(vqa, _COLUMNS[:3]).to_dict("records"):
        by_image.setdefault(row["image_path"], []).append([row["question"], row["answer"]])
    images = sorted(by_image)
    random.Random(seed).shuffle(images)
    cards, count = [], 0
    for image in images:
        if count >= sample:
            break
        cards.append({"image_path": image, "pairs": by_image[image]})
        count += len(by_image[image])
    return cards
