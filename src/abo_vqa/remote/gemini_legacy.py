"""Gemini by google-generativeai, the SDK that the study used.

Its vendor has ended support, so its bugs stay. Use `gemini` unless results have to be compared.
Needs an optional dependency: make setup EXTRAS=legacy.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.remote.connections import connection_error
from abo_vqa.remote.contract import Reply, Request, Usage
from abo_vqa.remote.errors import ServiceError
from abo_vqa.remote.google_errors import SAFETY_CATEGORIES
from abo_vqa.remote.http_errors import to_service_error
from abo_vqa.remote.keys import redact

if TYPE_CHECKING:
    from abo_vqa.core.service_config import ServiceConfig

_CONFIGURE_LOCK = threading.Lock()


class GeminiLegacyClient:
    """One key's client; see `ModelClient`."""

    def __init__(self, key: str, settings: ServiceConfig, secrets: Sequence[str] = ()) -> None:
        """Create the SDK's client; nothing is sent yet.

        Args:
            key: the API key.
            settings: the model and how it decodes.
            secrets: all keys, to be removed from messages.

        Raises:
            UserError: the SDK isn't installed, or doesn't know a setting.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the notice of its end, which our docs repeat
                import google.generativeai as sdk
                from google.generativeai.client import get_default_generative_client
        except ImportError as error:
            raise UserError(
                "generate.annotator gemini-legacy needs google-generativeai, whose support has "
                "ended. Run `make setup EXTRAS=legacy`, or set generate.annotator: gemini."
            ) from error
        if settings.thinking:
            raise UserError(
                "generate.thinking: the legacy SDK doesn't know it; set it to null, or "
                "generate.annotator: gemini."
            )
        self._secrets = {key, *secrets}
        self._settings = settings
        self._sdk = sdk
        options = {"api_endpoint": settings.base_url} if settings.base_url else None
        # The SDK has one global configuration; a client created under it keeps its key.
        with _CONFIGURE_LOCK:
            sdk.configure(api_key=key, transport="rest", client_options=options)
            self._client = get_default_generative_client()
        # `retry: None` switches the SDK's own retries off: the ledger has to know every request.
        self._options = {"timeout": settings.timeout_s, "retry": None}

    def _model(self, request: Request) -> Any:  # the SDK has no types
        settings = self._settings
        safety = None
        if settings.safety != "default":
            safety = dict.fromkeys(SAFETY_CATEGORIES, settings.safety)
        form = {"response_mime_type": "application/json", "response_schema": request.schema}
        model = self._sdk.GenerativeModel(
            settings.model,
            system_instruction=request.system or None,
            safety_settings=safety,
            generation_config={
                "temperature": settings.temperature,
                "max_output_tokens": settings.max_output_tokens,
                **(form if request.schema else {}),
            },
        )
        model._client = self._client  # else it would take the key configured last
        return model

    def generate(self, request: Request) -> Reply:
        """Send one request and wait for the reply; see `ModelClient`."""
        try:
            response = self._model(request).generate_content(
                _parts(request), request_options=self._options
            )
        except Exception as error:
            raise self._translate(error) from None  # the original holds the request's headers
        return _to_reply(response)

    def count_tokens(self, request: Request) -> int:
        """Return the input tokens by the vendor's count; see `ModelClient`."""
        try:
            response = self._model(request).count_tokens(
                _parts(request), request_options=self._options
            )
        except Exception as error:
            raise self._translate(error) from None
        return int(response.total_tokens)

    def _translate(self, error: Exception) -> ServiceError:
        """Return the typed error for one of the SDK's; raise any other as it is (a bug, too)."""
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from requests import RequestException

        text = redact(str(error), self._secrets)
        if isinstance(error, GoogleAPICallError):
            headers = getattr(error.response, "headers", None)
            status = _status(error)
            message = re.sub(r"^[A-Z]+ \S+: ", "", str(error.message))
            typed = to_service_error(int(error.code or 0), status, message, error.details, headers)
            return typed.redacted(lambda text: redact(text, self._secrets))
        if isinstance(error, (RequestException, RetryError, ConnectionError, TimeoutError)):
            typed = connection_error(error, self._settings.base_url)
            return typed.redacted(lambda text: redact(text, self._secrets))
        if type(error).__name__ == "ParseError":  # protobuf's: the body was cut off
            return ServiceError(f"the response's body can't be parsed: {text}")
        raise error

    def close(self) -> None:
        """Close the SDK's connections."""
        self._client.transport.close()


def _parts(request: Request) -> list[Any]:  # the SDK takes dictionaries and texts
    return [{"mime_type": request.mime_type, "data": request.image}, request.text]


def _status(error: Any) -> str:
    """Return the google.rpc status; the error's class only knows the one of its HTTP code."""
    try:
        return str(error.response.json()["error"]["status"])
    except (AttributeError, KeyError, TypeError, ValueError):  # no body, or another kind of body
        return str(getattr(error.grpc_status_code, "name", "") or "")


def _to_reply(response: Any) -> Reply:
    """Return a response's text, finish reason, block reason and tokens, whatever it lacks."""
    candidate = response.candidates[0] if response.candidates else None
    parts = candidate.content.parts if candidate else []
    reason = response.prompt_feedback.block_reason
    counts = response.usage_metadata
    return Reply(
        text="".join(part.text for part in parts),
        finish=_enum_name(candidate.finish_reason) if candidate else "NO_CANDIDATE",
        blocked=_enum_name(reason) if reason else "",
        usage=Usage(
            counts.prompt_token_count,
            counts.candidates_token_count,
            counted=counts.prompt_token_count > 0,
        ),
    )


def _enum_name(value: Any) -> str:
    """Return an enumeration's name; values newer than the SDK come as bare numbers."""
    return str(getattr(value, "name", value))
