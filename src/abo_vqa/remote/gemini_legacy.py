"""Gemini by google-generativeai, the SDK that the study used.

Its vendor has ended support: nothing in it will be mended. Use `gemini` unless you must compare.
Needs the extra: pip install 'abo-vqa[legacy]'.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.data.pairs import reply_schema
from abo_vqa.remote.contract import Reply, Request, Usage
from abo_vqa.remote.errors import ServiceError
from abo_vqa.remote.google_errors import SAFETY_CATEGORIES, trouble
from abo_vqa.remote.keys import redact

if TYPE_CHECKING:
    from abo_vqa.config import GenerateConfig

_CONFIGURE = threading.Lock()


class GeminiLegacy:
    """One key's client."""

    def __init__(self, key: str, settings: GenerateConfig, secrets: Sequence[str] = ()) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the notice of its end; ours is in the docs
                import google.generativeai as sdk
                from google.generativeai.client import get_default_generative_client
        except ImportError as error:
            raise UserError(
                "generate.annotator gemini-legacy needs google-generativeai, whose support has "
                "ended: pip install 'abo-vqa[legacy]', or set generate.annotator: gemini."
            ) from error
        if settings.thinking:
            raise UserError(
                "generate.thinking: the legacy SDK doesn't know it; set it to null, or "
                "generate.annotator: gemini."
            )
        self.secrets = {key, *secrets}
        self.settings = settings
        self.sdk = sdk
        options = {"api_endpoint": settings.base_url} if settings.base_url else None
        # The SDK has one global configuration; a client made under it keeps its key.
        with _CONFIGURE:
            sdk.configure(api_key=key, transport="rest", client_options=options)
            self.client = get_default_generative_client()

    def model(self, request: Request) -> Any:
        settings = self.settings
        safety = None
        if settings.safety != "default":
            safety = dict.fromkeys(SAFETY_CATEGORIES, settings.safety)
        made = self.sdk.GenerativeModel(
            settings.model,
            system_instruction=request.system,
            safety_settings=safety,
            generation_config={
                "temperature": settings.temperature,
                "max_output_tokens": settings.max_output_tokens,
                "response_mime_type": "application/json",
                "response_schema": reply_schema(),
            },
        )
        made._client = self.client  # else it would take the key configured last
        return made

    def ask(self, request: Request) -> Reply:
        parts = [{"mime_type": request.mime, "data": request.picture}, request.text]
        # `retry: None` switches the SDK's own retries off: the ledger has to know every request.
        options = {"timeout": self.settings.timeout_s, "retry": None}
        try:
            answer = self.model(request).generate_content(parts, request_options=options)
        except Exception as error:
            raise self.translated(error) from None  # the original holds the request's headers
        return _to_reply(answer)

    def count_tokens(self, request: Request) -> int:
        parts = [{"mime_type": request.mime, "data": request.picture}, request.text]
        options = {"timeout": self.settings.timeout_s, "retry": None}
        try:
            counted = self.model(request).count_tokens(parts, request_options=options)
        except Exception as error:
            raise self.translated(error) from None
        return int(counted.total_tokens)

    def translated(self, error: Exception) -> ServiceError:
        """The typed error; anything unforeseen (a bug, too) comes back as itself."""
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from requests import RequestException

        text = redact(str(error), self.secrets)
        if isinstance(error, GoogleAPICallError):
            headers = getattr(error.response, "headers", None)
            status = _status_of(error)
            message = re.sub(r"^[A-Z]+ \S+: ", "", redact(str(error.message), self.secrets))
            return trouble(int(error.code or 0), status, message, error.details, headers)
        if isinstance(error, (RequestException, RetryError, ConnectionError, TimeoutError)):
            return ServiceError(f"{type(error).__name__}: {text}")
        if type(error).__name__ == "ParseError":  # protobuf's: the body broke off
            return ServiceError(f"the answer's body can't be parsed: {text}")
        raise error

    def close(self) -> None:
        self.client.transport.close()


def _status_of(error: Any) -> str:
    """The google.rpc status: the error's class knows only what belongs to its HTTP code."""
    try:
        return str(error.response.json()["error"]["status"])
    except (AttributeError, KeyError, TypeError, ValueError):  # no body, or another one
        return str(getattr(error.grpc_status_code, "name", "") or "")


def _to_reply(answer: Any) -> Reply:
    """Text, finish reason, block reason and tokens of a response, whatever it lacks."""
    candidate = answer.candidates[0] if answer.candidates else None
    parts = candidate.content.parts if candidate else []
    reason = answer.prompt_feedback.block_reason
    counted = answer.usage_metadata
    return Reply(
        text="".join(part.text for part in parts),
        finish=_name_of(candidate.finish_reason) if candidate else "NO_CANDIDATE",
        blocked=_name_of(reason) if reason else "",
        usage=Usage(counted.prompt_token_count, counted.candidates_token_count),
    )


def _name_of(value: Any) -> str:
    """An enumeration's name; newer values than the SDK knows come as bare numbers."""
    return str(getattr(value, "name", value))
