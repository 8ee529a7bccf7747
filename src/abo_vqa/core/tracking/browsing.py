"""Links into MLflow's browser. No part of MLflow is imported at the top, which takes seconds."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

from abo_vqa.core.errors import AboVqaError
from abo_vqa.core.tracking.addresses import is_server, mask_login
from abo_vqa.core.tracking.views import runs_route

_BY_NAME = "/api/2.0/mlflow/experiments/get-by-name"
_TIMEOUT_S = 5.0
DIRECT = build_opener(ProxyHandler({}))
"""Asks a server on this machine, whatever proxy is set."""
_LOCAL = "http://127.0.0.1:5000"  # where `make ui` listens unless it is told otherwise


def experiment_name() -> str:
    """Return the name of the experiment that runs are recorded in; "" if the settings are wrong."""
    from abo_vqa.core.config import load_config

    try:
        return load_config().tracking.experiment
    except AboVqaError:  # whoever runs the pipeline is told
        return ""


def local_runs_url(address: str, experiment: str) -> str:
    """Return the address of an experiment's runs in the browser that runs on this machine.

    Args:
        address: the browser's.
        experiment: the experiment's name.

    Returns:
        The address; the browser's own if there is no such experiment.
    """
    query = f"{address}{_BY_NAME}?experiment_name={quote(experiment, safe='')}"
    try:
        with DIRECT.open(query, timeout=_TIMEOUT_S) as reply:
            return _runs_url(address, json.load(reply))
    except (OSError, ValueError, KeyError, TypeError):
        return address


def server_runs_url(uri: str, experiment: str) -> str:
    """Return the address of an experiment's runs at a tracking server, without its login.

    Args:
        uri: the server's.
        experiment: the experiment's name.

    Returns:
        The address; the server's own if it has no such experiment, or isn't asked by HTTP.
    """
    if not _is_http(uri):
        return mask_login(uri)
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    address = mask_login(uri)
    try:
        reply = http_request(
            get_default_host_creds(uri),
            _BY_NAME,
            "GET",
            max_retries=0,
            timeout=_TIMEOUT_S,
            raise_on_status=False,
            params={"experiment_name": experiment},
        )
        return _runs_url(address, reply.json())
    except (MlflowException, OSError, ValueError, KeyError, TypeError):
        return address


def _is_http(uri: str) -> bool:
    """Tell whether a store's address is one that a browser can open."""
    return uri.startswith(("http://", "https://"))


def _runs_url(address: str, reply: Any) -> str:
    """Return the address of the runs of the experiment that MLflow's reply describes."""
    experiment = (reply["experiment"] if isinstance(reply, dict) else None) or {}
    if "experiment_id" not in experiment:
        return address
    tags = {tag["key"]: tag["value"] for tag in experiment.get("tags", [])}
    return f"{address.rstrip('/')}/{runs_route(experiment['experiment_id'], tags)}"


def how_to_browse(uri: str, route: str) -> str:
    """Say where a page of the browser is.

    Args:
        uri: the store's address.
        route: the page's.
    """
    if not is_server(uri):
        return f"make ui, then {_LOCAL}/{route}"
    if not _is_http(uri):
        return f"{route} at {mask_login(uri)}"
    return f"{mask_login(uri).rstrip('/')}/{route}"
