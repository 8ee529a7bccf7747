"""Checks of services: keys, DVC's remotes, MLflow's store, the model hub. Nothing is written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from abo_vqa.commands.doctor.findings import Checkout, Finding, ok, problem, warning
from abo_vqa.commands.doctor.servers import (
    TIMEOUT_S,
    NoAnswerError,
    ask_server,
    call_with_timeout,
)
from abo_vqa.core.errors import first_line
from abo_vqa.core.service_config import PROTOCOLS
from abo_vqa.remote.keys import (
    NO_KEY,
    api_keys,
    is_foreign,
    key_variables,
    keys_in_environment,
    vendor_variables,
)

if TYPE_CHECKING:
    from abo_vqa.core.service_config import GenerateConfig

# Present or not; neither is needed: the study's weights are public.
OPTIONAL = ("HF_TOKEN", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "HTTPS_PROXY")


def keys(case: Checkout) -> Iterator[Finding]:
    """Report whether keys are set, never what they are.

    Args:
        case: the checkout.
    """
    settings = case.config.generate if case.config else None
    service = settings if settings and settings.annotator in PROTOCOLS else None
    yield _key_finding(service, settings.annotator if settings else "")
    if service and is_foreign(service):
        yield _endpoint(case, service)
    present = [name for name in OPTIONAL if os.environ.get(name)]
    yield ok("environment", f"set: {', '.join(present) or 'none'} (of {', '.join(OPTIONAL)})")


def _key_finding(service: GenerateConfig | None, annotator: str) -> Finding:
    """Report how many keys the annotator has.

    Args:
        service: its settings, or None if it isn't behind an API.
        annotator: its name, or "".
    """
    variables = key_variables(service) if service else vendor_variables("gemini")
    if not variables:
        return ok("api key", "none is sent to generate.base_url: generate.key_variable is null")
    count = len(keys_in_environment(variables))
    if count:
        source = next(name for name in reversed(variables) if os.environ.get(name))
        return ok("api key", f"{count} in {source}")
    *first, last = variables
    message = f"neither {first[0]} nor {last} is set" if first else f"{last} isn't set"
    if not service:
        need = f"; generate.annotator {annotator} needs none" if annotator else ""
        return ok("api key", message + need)
    advice = f"Set {variables[0]}, or choose generate.annotator: offline, or file with a table."
    return problem("api key", f"{message}; generate.annotator {annotator} needs one", advice)


def _endpoint(case: Checkout, service: GenerateConfig) -> Finding:
    """Check that a server of chat completions answers, and lets us in.

    Args:
        case: the checkout.
        service: its address, and where its key is; the first one is sent.
    """
    has_key = keys_in_environment(key_variables(service))
    answer = ask_server(case, service, api_keys(service)[0] if has_key else NO_KEY)
    finding = answer.finding("endpoint", service, "generate.")
    return finding or ok("endpoint", f"{service.base_url} answers")


def remotes(case: Checkout) -> Iterator[Finding]:
    """Check the configuration of DVC's remotes, without contacting them.

    Args:
        case: the checkout.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        dvc = Repo(str(case.root))
    except NotDvcRepoError:
        yield problem("remotes", f"{case.root} isn't a DVC repository", "Run it in a clone.")
        return
    with dvc as repo:
        configured = {name: dict(options) for name, options in repo.config["remote"].items()}
        default = repo.config["core"].get("remote", "")
    for name, options in configured.items():
        yield _remote(name, options, name == default)
    if not default:
        yield ok("remote", "no default: `dvc push` needs one (`dvc remote add -d NAME URL`)")
    elif default not in configured:
        advice = f"`dvc remote add -d {default} URL`, or `dvc remote default` another."
        yield problem("remote", f"the default is {default}, which isn't configured", advice)


def _remote(name: str, options: Mapping[str, Any], default: bool) -> Finding:
    """Check a remote: its address, whether its protocol is installed, its folder if it has one."""
    from dvc.fs import get_fs_cls

    url = str(options["url"])
    called = f"remote {name}"
    message = f"{url}{' (the default)' if default else ''}"
    try:
        get_fs_cls({"url": url})
    except ImportError as error:
        return warning(called, f"{message}: {error}", "Install that into .venv.")
    local = urlsplit(url).scheme in ("", "file", "local")
    if local and not Path(url.removeprefix("file://")).is_dir():
        return warning(called, f"{message}: there is no such folder", "Make it, or mount its disk.")
    return ok(called, f"{message}{'' if local else ', not contacted'}")


def tracking(_case: Checkout) -> Iterator[Finding]:
    """Check MLflow's store: a server is asked, a SQLite database opened for reading."""
    from abo_vqa.core.tracking.backend import check_store, is_server, sqlite_file, store

    uri, _ = store()
    if urlsplit(uri).scheme in ("", "file") or Path(uri).is_dir():
        check_store(uri)  # says why such a folder won't do
    if (file := sqlite_file(uri)) is not None:
        yield _database(file)
    elif is_server(uri):
        yield _server(uri)
    else:
        yield ok("tracking", f"{uri}, not contacted")


def _database(file: Path) -> Finding:
    """Check a database file: there, sound, and writable for the stages."""
    if not file.is_file():
        advice = "`abo-vqa tracking` makes it, as does the first stage."
        return warning("tracking", f"{file} isn't there yet", advice)
    address = f"file:{quote(str(file))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=TIMEOUT_S)) as opened:
            (runs,) = opened.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as error:
        advice = "Stop the process that is writing to it, or move it away: a new one is created."
        return problem("tracking", f"{file} can't be read: {error}", advice)
    if not all(os.access(place, os.W_OK) for place in (file, file.parent)):
        advice = "Fix its permissions, or set MLFLOW_TRACKING_URI=sqlite:////path/mlflow.db."
        return problem("tracking", f"{file} can only be read", advice)
    return ok("tracking", f"{file}, {runs:,} runs")


def _server(uri: str) -> Finding:
    """Check that a tracking server answers, and lets us in."""

    def ask() -> int:
        import mlflow

        return len(mlflow.MlflowClient(uri).search_experiments(max_results=1))

    import mlflow.exceptions  # noqa: F401  # takes seconds, which aren't the server's

    from abo_vqa.core.tracking.backend import check_store

    # Read at each request.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(max(1, round(TIMEOUT_S)))
    advice = (
        "Start the server, correct MLFLOW_TRACKING_URI, or unset it to use the local database. "
        "No stage starts without it."
    )
    try:
        call_with_timeout(TIMEOUT_S, lambda: check_store(uri))
        call_with_timeout(TIMEOUT_S, ask)
    except Exception as error:  # of sockets, HTTP and MLflow
        return problem("tracking", f"{uri} can't be used: {first_line(error)}", advice)
    return ok("tracking", f"{uri} answers")


def hub(case: Checkout) -> Iterator[Finding]:
    """Check that the model hub answers, if weights are still to come from it.

    Args:
        case: the checkout.
    """
    from abo_vqa.commands.doctor.weights import find_local_weights, from_hub, sources

    hub_sources = {name: s for name, s in sources(case.settings).items() if from_hub(s)}
    missing = [
        name for name, source in hub_sources.items() if not find_local_weights(source).complete
    ]
    if not missing:
        why = "all its weights are here" if hub_sources else "no weights come from it"
        yield ok("model hub", f"not needed, not asked: {why}")
        return
    if case.offline:
        message = f"HF_HUB_OFFLINE is set, and weights are missing: {', '.join(missing)}"
        advice = "Unset it, or copy them into the hub's cache (docs/doctor.md)."
        yield problem("model hub", message, advice)
        return
    advice = "Weights are downloaded from it: fix the network, or copy them here (docs/doctor.md)."
    import requests
    from huggingface_hub import constants

    try:
        call_with_timeout(TIMEOUT_S, lambda: requests.head(constants.ENDPOINT, timeout=TIMEOUT_S))
    except (requests.RequestException, NoAnswerError) as error:
        yield problem("model hub", f"{constants.ENDPOINT} doesn't answer: {error}", advice)
    else:
        yield ok("model hub", f"{constants.ENDPOINT} answers")
