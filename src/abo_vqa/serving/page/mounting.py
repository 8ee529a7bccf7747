"""Mounts the page on a FastAPI application."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from abo_vqa.core.paths import ADAPTER
from abo_vqa.serving.extra import require_packages
from abo_vqa.serving.page.products import Products
from abo_vqa.serving.page.respondents import Respondents

if TYPE_CHECKING:
    from fastapi import FastAPI

    from abo_vqa.core.config import Config

_LARGEST = "20mb"  # of an upload; ABO's largest originals have 5 MB
_ICON = '<link rel="icon" href="data:image/svg+xml,{data}">'


def mount_page(
    app: FastAPI,
    config: Config,
    *,
    path: str = "/try",
    models: Sequence[str] | None = None,
    adapter: Path = ADAPTER,
) -> None:
    """Add the page to an application, in whose process its models are loaded and run.

    They are loaded when the first question comes, so that mounting takes a second or two.

    Args:
        app: the application, which hasn't started yet.
        config: the settings.
        path: where the page is.
        models: the models' names, one column each; None: the base of `lora.model`, fine-tuned, and
            the blind baseline.
        adapter: the PEFT folder of the fine-tuned model.

    Raises:
        UserError: Gradio isn't installed, or no model is called so.
    """
    require_packages("the page", "gradio")
    respondents = Respondents(config, models, adapter)
    products = Products.read(config)
    _prepare_environment()
    # Only here: Gradio is optional, and what is set above must be known when it is imported.
    import gradio as gr

    from abo_vqa.serving.page.blocks import TryPage, build_page, page_theme
    from abo_vqa.serving.page.rendering import read_asset

    gr.mount_gradio_app(
        app,
        build_page(TryPage(respondents, products)),
        path,
        footer_links=[],  # no links to Gradio, its settings or an API
        run_history=False,
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        allowed_paths=[],
        head=_ICON.format(data=quote(read_asset("icon.svg"))),
        show_error=False,  # messages of unforeseen errors stay in the log
        max_file_size=_LARGEST,
        ssr_mode=False,  # no Node server
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=page_theme(),
        css=read_asset("page.css"),
    )


def _prepare_environment() -> None:
    """Keep Gradio from calling home, and uploads in a folder that nobody else can read."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    if "GRADIO_TEMP_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="abo-vqa-page-")  # readable by its owner alone
        os.environ["GRADIO_TEMP_DIR"] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
