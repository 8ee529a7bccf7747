"""Checks of models behind an address of one's own: does the server answer, and have the model?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from abo_vqa.commands.doctor.findings import Checkout, Finding, ok, problem, warning
from abo_vqa.commands.doctor.servers import ask_server
from abo_vqa.core.errors import UserError
from abo_vqa.core.service_config import PROTOCOLS
from abo_vqa.models.registry import checkpoint_key
from abo_vqa.remote.keys import api_keys

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.core.service_config import ServiceConfig

_SHOWN = 5  # names of models in a message


def endpoints(case: Checkout) -> Iterator[Finding]:
    """Check each model behind an API that the settings ask: its key, its server, its name there.

    The annotator's key and server are `services.keys`' findings.

    Args:
        case: the checkout.
    """
    config = case.settings
    if config.generate.annotator in PROTOCOLS:
        findings = _model(case, "generate.model", config.generate, is_server_known=True)
        yield from (finding for finding in findings if finding.state == "warning")
    for name, service in _endpoint_models(config).items():
        yield from _model(case, name, service)


def _endpoint_models(config: Config) -> dict[str, ServiceConfig]:
    """List the profile's models behind an API that are baselines or verifiers, by their names."""
    used = {checkpoint_key(name) for name in (*config.baselines.models, *config.verify.models)}
    return {
        name: checkpoint.endpoint
        for name, checkpoint in config.models
        if checkpoint.endpoint and name in used
    }


def _model(
    case: Checkout, name: str, service: ServiceConfig, *, is_server_known: bool = False
) -> Iterator[Finding]:
    """Check one model; a vendor's own server isn't asked.

    Args:
        case: the checkout.
        name: what is checked.
        service: the model and its server.
        is_server_known: whether what is wrong with the server is reported elsewhere.
    """
    try:
        keys = api_keys(service)
    except UserError as error:
        yield problem(name, str(error), "")
        return
    if service.protocol != "openai" or not service.base_url:
        yield ok(name, f"{service.model} by {service.protocol}: {len(keys)} key(s), not contacted")
        return
    answer = ask_server(case, service, keys[0])
    of_server = answer.finding(name, service)
    if not (of_server and is_server_known):
        yield of_server or _compare(name, service, answer.models)


def _compare(name: str, service: ServiceConfig, listed: Sequence[str]) -> Finding:
    """Compare the model's name with those that the server lists."""
    # Ollama adds a tag where there is none, and Gemini's compatible endpoint lists paths.
    known = {listed_name.removeprefix("models/") for listed_name in listed}
    model = service.model.removeprefix("models/")
    if not known or {model, f"{model}:latest"} & known:
        return ok(name, f"{service.base_url} answers{f' and has {model}' if known else ''}")
    near = get_close_matches(model, known, n=_SHOWN, cutoff=0.3) or sorted(known)[:_SHOWN]
    return warning(
        name,
        f"{service.base_url} lists no model {model!r}",
        f"Write one of its {len(known)} models as the server names it, e.g. {', '.join(near)}.",
    )
