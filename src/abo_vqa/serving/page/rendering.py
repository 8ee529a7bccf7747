"""The page's parts as HTML; the templates escape every text that they are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from abo_vqa.data.normalise import same_answer
from abo_vqa.serving.page.heatmap import STRONGEST, overlay_uri, strongest_place
from abo_vqa.serving.page.products import thumbnail_uri

if TYPE_CHECKING:
    from PIL import Image

    from abo_vqa.models.explaining.explanations import AttentionMaps
    from abo_vqa.serving.page.products import PageProduct
    from abo_vqa.serving.page.respondents import ModelReply, Respondent

_TEMPLATES = Path(__file__).parent / "templates"
_PHOTO_SIDE = 480  # pixels of the photo under a map


@dataclass(frozen=True)
class Token:
    """A token's map as the templates need it.

    Attributes:
        text: the token.
        kind: "question" or "answer".
        overlay: the map, as an address that a page can hold.
        place: where most of its attention is, in words.
        elsewhere: the share of its attention that is no place in the image.
    """

    text: str
    kind: str
    overlay: str
    place: str
    elsewhere: float


def read_asset(name: str) -> str:
    """Return a style sheet, a script or an icon of the page.

    Args:
        name: the file's.
    """
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def render_header(
    respondents: Sequence[Respondent], products: int, *, from_sample: bool = False
) -> str:
    """Return the page's title and introduction.

    Args:
        respondents: the models.
        products: how many products can be chosen from.
        from_sample: whether the models are the embedded sample's.
    """
    return _template("header").render(
        respondents=respondents, products=products, from_sample=from_sample
    )


def render_notes() -> str:
    """Return what the numbers and the maps mean, and don't."""
    return _template("notes").render()


def render_nothing() -> str:
    """Return what stands in the place of answers before a question."""
    return _template("nothing").render()


def render_products(products: Sequence[PageProduct], chosen: int | None = None) -> str:
    """Return the products to choose from.

    Args:
        products: the products.
        chosen: the position of the chosen one.
    """
    return _template("products").render(products=products, chosen=chosen)


def render_questions(product: PageProduct | None, asked: str = "") -> str:
    """Return the questions that are offered about a product.

    Args:
        product: the product; None for an image that somebody has uploaded.
        asked: the question that has been asked.
    """
    return _template("questions").render(product=product, asked=asked)


def render_problem(text: str) -> str:
    """Return what is wrong with the image or the question.

    Args:
        text: a sentence.
    """
    return _template("problem").render(text=text)


class RepliesView:
    """The models' answers side by side, as they come in.

    Args:
        respondents: the models.
        image: the image.
        question: the question.
        reference: the reference answer, if there is one.
    """

    def __init__(
        self,
        respondents: Sequence[Respondent],
        image: Image.Image,
        question: str,
        reference: str | None,
    ) -> None:
        self._waiting = list(respondents)
        self._columns: list[dict[str, Any]] = []
        self._reference = reference
        self._context = {
            "photo": thumbnail_uri(image, _PHOTO_SIDE),
            "question": question,
            "reference": reference,
            "strongest": STRONGEST,
        }

    def add(self, reply: ModelReply) -> None:
        """Add a model's reply.

        Args:
            reply: the reply.
        """
        self._waiting.remove(reply.respondent)
        self._columns.append(_column(reply, self._reference))

    def render(self) -> str:
        """Return the answers so far, and who still thinks."""
        return _template("replies").render(
            columns=self._columns, waiting=self._waiting, **self._context
        )


def _column(reply: ModelReply, reference: str | None) -> dict[str, Any]:
    """Return one model's answer as the template needs it."""
    explanation = reply.explanation
    attention = explanation.attention if explanation else None
    tokens = [] if attention is None else _tokens(attention)
    answers = [i for i, token in enumerate(tokens) if token.kind == "answer"]
    return {
        "id": f"r{uuid4().hex[:8]}",  # names its radio buttons apart from other columns'
        "respondent": reply.respondent,
        "problem": reply.problem,
        "explanation": explanation,
        "right": bool(explanation and reference and same_answer(explanation.answer, reference)),
        "tokens": tokens,
        "selected": answers[0] if answers else 0,
    }


def _tokens(attention: AttentionMaps) -> list[Token]:
    """Return each token's map."""
    rows = zip(attention.tokens, attention.kinds, attention.maps, attention.elsewhere, strict=True)
    return [
        Token(text.removeprefix("##"), kind, overlay_uri(map_), strongest_place(map_), float(rest))
        for text, kind, map_, rest in rows
    ]


def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("abo_vqa.serving.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    return environment.get_template(f"{name}.html.j2")


def _percent(share: float) -> str:
    """Return a probability in percent; only what is 0 or 1 is written so."""
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 < share < 1:
        return ">99.9%"
    return f"{100 * share:.1f}%"
