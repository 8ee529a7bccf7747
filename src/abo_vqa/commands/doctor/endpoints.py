"""Checks of models behind an address of one's own: does the server answer, and have the model?"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING

from abo_vqa.commands.doctor.findings import Checkout, Finding, ok, problem, warning
from abo_vqa.commands.doctor.services import TIMEOUT_S, call_with_timeout
from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.service_config import PROTOCOLS
from abo_vqa.models.registry import checkpoint_key
from abo_vqa.remote.keys import api_keys, redact, rejected_key_advice

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
        findings = _model("generate.model", config.generate)
        yield from (finding for finding in findings if finding.state == "warning")
    for name, service in _endpoint_models(config).items():
        yield from _model(name, service)


def _endpoint_models(config: Config) -> dict[str, ServiceConfig]:
    """List the profile's models behind an API that are baselines or verifiers, by their names."""
    used = {checkpoint_key(name) for name in (*config.baselines.models, *config.verify.models)}
    return {
        name: checkpoint.endpoint
        for name, checkpoint in config.models
        if checkpoint.endpoint and name in used
    }


def _model(name: str, service: ServiceConfig) -> Iterator[Finding]:
    """Check one model; a vendor's own server isn't asked."""
    import openai

    try:
        keys = api_keys(service)
    except UserError as error:
        yield problem(name, str(error), "")
        return
    if service.protocol != "openai" or not service.base_url:
        yield ok(name, f"{service.model} by {service.protocol}: {len(keys)} key(s), not contacted")
        return
    client = openai.OpenAI(
        base_url=service.base_url, api_key=keys[0], timeout=TIMEOUT_S, max_retries=0
    )
    try:
        listed = call_with_timeout(TIMEOUT_S, lambda: [m.id for m in client.models.list().data])
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        message = f"{service.base_url} refuses us: HTTP {error.status_code}"
        yield problem(name, message, rejected_key_advice(service))
        return
    except (openai.APIConnectionError, UserError) as error:
        reason = redact(first_line(error.__cause__ or error), keys)
        advice = "Start the server, or correct base_url (it ends in /v1 for most servers)."
        yield problem(name, f"{service.base_url} doesn't answer: {reason}", advice)
        return
    except (openai.APIError, AttributeError, TypeError, ValueError):
        listed = []  # not every server lists its models
    yield _compare(name, service, listed)


def _compare(name: str, service: ServiceConfig, listed: list[str]) -> Finding:
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
