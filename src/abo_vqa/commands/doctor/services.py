"""Checks of services: keys and the model hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from abo_vqa.commands.doctor.findings import Checkout, Finding, ok, problem
from abo_vqa.commands.doctor.servers import (
    TIMEOUT_S,
    NoAnswerError,
    ask_server,
    call_with_timeout,
)
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
