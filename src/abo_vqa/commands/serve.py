"""Serve a model over HTTP: questions about images, answered in batches (docs/serving.md).

abo-vqa serve
abo-vqa serve --model models:/abo-vqa-blip-lora@champion --host 0.0.0.0
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from abo_vqa.commands.adapter_option import add_adapter_option
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import FINETUNED_MODEL, FINETUNED_MODELS
from abo_vqa.core.stage import pin_threads
from abo_vqa.models.registry import STUDY_MODELS
from abo_vqa.serving.extra import require_packages

_PAGE = "/try"  # where the page is that --page adds
_KEYS = "ABO_VQA_API_KEYS"
_LAST_PORT = 65535


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    names = ", ".join([*STUDY_MODELS, *FINETUNED_MODELS])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "Limits are in params.yaml under serve. Keys: ABO_VQA_API_KEYS may ask,\n"
        "ABO_VQA_ADMIN_KEYS may reload. SIGHUP looks the model up again; SIGTERM answers\n"
        "what was accepted and ends."
    )
    parser.add_argument(
        "--model",
        default=FINETUNED_MODEL,
        metavar="MODEL",
        help=f"{names}, another name under models in the profile, or models:/NAME@ALIAS for one in "
        "MLflow's registry (default: %(default)s)",
    )
    add_adapter_option(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0: for other machines (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="0: a free one (default: %(default)s)"
    )
    parser.add_argument("--page", action="store_true", help="also a page to try the models: /try")


def command(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    require_packages("serving", "litserve", "prometheus_client")
    if not 0 <= args.port <= _LAST_PORT:
        raise UserError(f"--port: found {args.port}, must be from 0 to {_LAST_PORT}.")
    config = load_config()
    pin_threads(config.threads)
    # Only here: they load the web framework.
    from abo_vqa.serving.running import run_server, temporary_state
    from abo_vqa.serving.server import create_server

    page = _page(config, args.adapter) if args.page else None
    with temporary_state() as folder:
        server = create_server(
            config, args.model, args.adapter, folder, page_paths=(_PAGE,) if page else ()
        )
        run_server(server, args.host, args.port, page)
    return 0


def _page(config: Config, adapter: Path) -> Callable[[Any], None]:
    """Return what adds the page to the server's application.

    Raises:
        UserError: the page isn't there, or keys are used, which it doesn't ask for.
    """
    if os.environ.get(_KEYS):
        raise UserError(
            f"--page: {_KEYS} is set, but the page asks for no key: everybody who reaches it could "
            "use the models. Serve the page without keys, behind a proxy that asks who it is."
        )
    require_packages("--page", "gradio")
    mounting = importlib.import_module("abo_vqa.serving.page.mounting")
    return lambda app: mounting.mount_page(app, config, path=_PAGE, adapter=adapter)
