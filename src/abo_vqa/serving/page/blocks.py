"""The page itself: its parts, and what happens when somebody uses them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from abo_vqa.core.errors import UserError
from abo_vqa.data.image_decoding import UnreadableImageError, decode
from abo_vqa.serving.page.products import PageProduct, Products
from abo_vqa.serving.page.rendering import (
    RepliesView,
    read_asset,
    render_header,
    render_notes,
    render_nothing,
    render_problem,
    render_products,
    render_questions,
)
from abo_vqa.serving.page.respondents import Respondents

if TYPE_CHECKING:
    from PIL import Image

TITLE = "Ask about a product"
_WAITING = 16  # questions that may wait for the one at work; another one is told to come back
_KEPT_S = 3600  # how long uploads are kept, and how often they are looked through
_LONGEST = 2000  # characters; what a model has room for is less, and is checked by itself
_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Arial", "sans-serif")
_MONO = ("ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace")


class TryPage:
    """What the page does.

    Args:
        respondents: the models.
        products: the products to choose from.
    """

    def __init__(self, respondents: Respondents, products: Products) -> None:
        self.respondents = respondents
        self.products = products

    def ask(self, file: str | None, chosen: int | None, question: str) -> Iterator[str]:
        """Ask all models.

        Args:
            file: the image that has been uploaded.
            chosen: the position of the chosen product, which comes before a file.
            question: the question.

        Yields:
            The answers so far as HTML, or what is wrong.
        """
        question = question.strip()
        try:
            image = self._image(file, chosen)
            if not question:
                raise UserError("Write a question first, or choose one.")
            if len(question) > _LONGEST:
                raise UserError(
                    f"The question is too long: {len(question):,} characters, and {_LONGEST:,} are "
                    "allowed. Shorten it."
                )
        except UserError as error:
            yield render_problem(str(error))
            return
        reference = self._reference(chosen, question)
        view = RepliesView(self.respondents.respondents, image, question, reference)
        yield view.render()
        for reply in self.respondents.ask(image, question):
            view.add(reply)
            yield view.render()

    def _image(self, file: str | None, chosen: int | None) -> Image.Image:
        """Return the image that is asked about."""
        if chosen is not None:
            return self.products.image(chosen)
        if file is None:
            raise UserError(
                "Choose a product first, or upload an image: JPEG, PNG, WebP, GIF or BMP."
            )
        path = Path(file)
        try:
            return decode(path.read_bytes(), path.name)
        except UnreadableImageError as error:
            raise UserError(f"The image can't be read: {error}. Upload another one.") from error
        except OSError as error:
            raise UserError("The image isn't here any more. Upload it again.") from error

    def check_upload(self, file: str | None) -> str:
        """Return what is wrong with an image that has been uploaded, as HTML; "" if nothing is.

        Args:
            file: the image.
        """
        try:
            self._image(file, None)
        except UserError as error:
            return render_problem(str(error))
        return ""

    def _reference(self, chosen: int | None, question: str) -> str | None:
        """Return the reference answer to a question about a product, if there is one."""
        product = self.product(chosen)
        pairs = () if product is None else product.questions
        return next((pair.answer for pair in pairs if pair.question == question), None)

    def product(self, chosen: int | None) -> PageProduct | None:
        """Return the chosen product; None if there is no such."""
        if chosen is None or not 0 <= chosen < len(self.products.products):
            return None
        return self.products.products[chosen]


def build_page(page: TryPage) -> gr.Blocks:
    """Lay out the page and connect its parts.

    Args:
        page: what it does.
    """
    products = page.products.products
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(_KEPT_S, _KEPT_S)
    ) as blocks:
        chosen = gr.State(None)
        models = page.respondents
        _text(render_header(models.respondents, len(products), from_sample=models.from_sample))
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                image = gr.Image(
                    label="Image: drop one here, or click to choose a file",
                    sources=["upload", "clipboard"],
                    type="filepath",
                    buttons=[],
                    height=280,
                    elem_id="vqa-image",
                )
                # Not decoded by Gradio, which has other limits and messages than `image_decoding`.
                image.preprocess = _uploaded_path
                picker = _buttons(
                    render_products(products), visible=bool(products), elem_id="vqa-picker"
                )
            with gr.Column(scale=3, min_width=320):
                with gr.Row(equal_height=True):
                    question = gr.Textbox(
                        label="Question",
                        placeholder="What color is it?",
                        max_lines=4,
                        scale=5,
                        elem_id="vqa-question",
                    )
                    ask = gr.Button("Ask", variant="primary", scale=0, elem_id="vqa-ask")
                offered = _buttons("", elem_id="vqa-offered")
                answers = _text(render_nothing(), elem_id="vqa-answers")
                _text(render_notes())
        _connect(page, (image, picker, chosen, question, ask, offered, answers))
    blocks.queue(max_size=_WAITING, default_concurrency_limit=4)
    return blocks


def _text(html: str, **options: Any) -> gr.HTML:
    """Lay out HTML that does nothing."""
    return gr.HTML(html, js_on_load=None, apply_default_css=False, **options)


def _buttons(html: str, **options: Any) -> gr.HTML:
    """Lay out HTML whose buttons are events: `select`, with the button's `data-index`."""
    script = read_asset("select.js")
    return gr.HTML(html, js_on_load=script, apply_default_css=False, **options)


def _uploaded_path(payload: Any) -> str | None:
    """Return the path of an uploaded file, which Gradio has checked to be one."""
    return None if payload is None else payload.path


def _connect(page: TryPage, parts: tuple[Any, ...]) -> None:
    """Connect the page's parts with what it does."""
    image, picker, chosen, question, ask, offered, answers = parts

    def pick(event: gr.EventData) -> tuple[Any, ...]:
        position = int(event.index)
        product = page.product(position)
        if product is None:
            return (gr.skip(),) * 5
        return (
            page.products.image(position),
            position,
            render_products(page.products.products, position),
            render_questions(product),
            render_nothing(),
        )

    def restart() -> tuple[Any, ...]:
        return None, render_products(page.products.products), "", render_nothing()

    def check(file: str | None) -> tuple[Any, ...]:
        problem = page.check_upload(file)
        kept = None if problem else gr.skip()  # else a browser would show a broken image's icon
        *others, nothing = restart()
        return kept, *others, problem or nothing

    def choose(position: int | None, event: gr.EventData) -> tuple[str, str]:
        product = page.product(position)
        index = int(event.index)
        if product is None or not 0 <= index < len(product.questions):
            return gr.skip(), gr.skip()
        text = product.questions[index].question
        return text, render_questions(product, text)

    # Only the models are slow, and one question at a time keeps them within memory.
    asking: dict[str, Any] = {
        "fn": page.ask,
        "inputs": [image, chosen, question],
        "outputs": answers,
        "concurrency_limit": 1,
        "concurrency_id": "models",
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    picker.select(pick, None, [image, chosen, picker, offered, answers], **quick)
    image.upload(check, image, [image, chosen, picker, offered, answers], **quick)
    image.clear(restart, None, [chosen, picker, offered, answers], **quick)
    offered.select(choose, chosen, [question, offered], **quick).then(**asking)
    gr.on([ask.click, question.submit], **asking)


def page_theme() -> gr.themes.Base:
    """Return the report's colours and the reader's own fonts: nothing is loaded from elsewhere."""
    blue = gr.themes.Color(
        *("#f0f7fc", "#e3eef6", "#c5e6fb", "#9ad2f5", "#56B4E9", "#0072B2"),
        *("#0072B2", "#00639b", "#005585", "#00466f", "#00304d"),
        name="report",
    )
    theme = gr.themes.Base(
        primary_hue=blue,
        neutral_hue=gr.themes.colors.slate,
        font=_FONT,
        font_mono=_MONO,
        radius_size=gr.themes.sizes.radius_md,
    )
    return theme.set(
        button_primary_background_fill="#0072B2",
        button_primary_background_fill_hover="#00639b",
        button_primary_background_fill_dark="#0072B2",
        button_primary_text_color="white",
        block_label_text_color="#5c6570",
        block_label_text_color_dark="#a3adb8",
        block_label_background_fill="#fff",
        block_label_background_fill_dark="#1d2229",
        block_background_fill="#fff",
        block_background_fill_dark="#1d2229",
        block_border_color="#d8dde3",
        block_border_color_dark="#39414b",
        input_background_fill="#fff",
        input_background_fill_dark="#14181d",
    )
