"""Gemini by its maintained SDK, google-genai."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from json import JSONDecodeError
from typing import TYPE_CHECKING

from google import genai
from google.genai import types
from google.genai.errors import APIError

from abo_vqa.remote.connections import connection_error
from abo_vqa.remote.contract import Reply, Request, Usage
from abo_vqa.remote.errors import ServiceError
from abo_vqa.remote.google_errors import SAFETY_CATEGORIES
from abo_vqa.remote.http_errors import to_service_error
from abo_vqa.remote.keys import redact

if TYPE_CHECKING:
    from abo_vqa.core.service_config import ServiceConfig

_ADDRESS = "https://generativelanguage.googleapis.com"


class GeminiClient:
    """One key's client. The SDK's own retries are off: the ledger has to know every request.

    Attributes:
        sdk: the SDK's client.
        model: the model's name.
    """

    def __init__(self, key: str, settings: ServiceConfig, secrets: Sequence[str] = ()) -> None:
        """Create the SDK's client; nothing is sent yet.

        Args:
            key: the API key.
            settings: the model and how it decodes.
            secrets: all keys, to be removed from messages.
        """
        # A finish reason newer than the SDK keeps its name, which is all that is needed.
        warnings.filterwarnings("ignore", r".* is not a valid ", module=r"google\.genai")
        self._secrets = {key, *secrets}
        self.model, self._address = settings.model, settings.base_url
        options = types.HttpOptions(
            # Named, or the SDK would take it from the environment (GOOGLE_GEMINI_BASE_URL).
            base_url=settings.base_url or _ADDRESS,
            api_version="v1beta",  # the only one with batch jobs
            timeout=int(settings.timeout_s * 1000),
        )
        self.sdk = genai.Client(api_key=key, vertexai=False, http_options=options)
        self._config = _base_config(settings)

    def request_config(self, request: Request) -> types.GenerateContentConfig:
        """Return decoding, safety, the system instruction and the schema, as the SDK takes them.

        Without a schema the reply is free text.
        """
        changes = {
            "system_instruction": request.system or None,
            "response_schema": request.schema or None,
            "response_mime_type": "application/json" if request.schema else None,
        }
        return self._config.model_copy(update=changes)

    def generate(self, request: Request) -> Reply:
        """Send one request and wait for the reply; see `ModelClient`."""
        try:
            response = self.sdk.models.generate_content(
                model=self.model,
                contents=request_parts(request),
                config=self.request_config(request),
            )
        except Exception as error:
            raise self.translate(error) from None  # the original holds the request's headers
        return to_reply(response)

    def count_tokens(self, request: Request) -> int:
        """Return the input tokens by the vendor's count; see `ModelClient`."""
        # The Developer API's countTokens takes no system instruction: count it as user text.
        parts = [*filter(None, [request.system]), *request_parts(request)]
        try:
            response = self.sdk.models.count_tokens(model=self.model, contents=parts)
        except Exception as error:
            raise self.translate(error) from None
        return int(response.total_tokens or 0)

    def translate(self, error: Exception) -> ServiceError:
        """Return the typed error for one of the SDK's.

        Raises:
            Exception: the error itself if it is of no known kind (a bug, too).
        """
        if isinstance(error, APIError):
            body = error.details.get("error", {}) if isinstance(error.details, dict) else {}
            headers = getattr(error.response, "headers", None)
            details = body.get("details") or []
            typed = to_service_error(
                error.code, error.status or "", str(error.message or ""), details, headers
            )
            return typed.redacted(self.redact)
        if _is_connection_error(error):
            return connection_error(error, self._address).redacted(self.redact)
        raise error

    def redact(self, text: str) -> str:
        """Return `text` without API keys."""
        return redact(text, self._secrets)

    def close(self) -> None:
        """Close the SDK's connections."""
        self.sdk.close()


def _is_connection_error(error: Exception) -> bool:
    """Return whether it is a timeout, a dropped connection, or a body cut off or not JSON."""
    # The SDK uses httpx or its fork httpx2, whichever is installed: go by the class's name.
    by_name = any(cls.__name__ == "RequestError" for cls in type(error).__mro__)
    return by_name or isinstance(error, (JSONDecodeError, ConnectionError, TimeoutError))


def request_parts(request: Request) -> list[types.PartUnion | types.PartUnionDict]:
    """Return the user's turn: the image and the text."""
    return [types.Part.from_bytes(data=request.image, mime_type=request.mime_type), request.text]


def _base_config(settings: ServiceConfig) -> types.GenerateContentConfig:
    """Return decoding and safety, without what differs from request to request."""
    safety = None
    if settings.safety != "default":
        threshold = types.HarmBlockThreshold(settings.safety)
        safety = [
            types.SafetySetting(category=types.HarmCategory(category), threshold=threshold)
            for category in SAFETY_CATEGORIES
        ]
    thinking = None
    if settings.thinking == "none":  # which isn't among the levels
        thinking = types.ThinkingConfig(thinking_budget=0)
    elif settings.thinking:
        level = types.ThinkingLevel(settings.thinking.upper())
        thinking = types.ThinkingConfig(thinking_level=level)
    return types.GenerateContentConfig(
        temperature=settings.temperature,
        max_output_tokens=settings.max_output_tokens,
        safety_settings=safety,
        thinking_config=thinking,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )


def to_reply(response: types.GenerateContentResponse) -> Reply:
    """Return a response's text, finish reason, block reason and tokens, whatever it lacks."""
    feedback = response.prompt_feedback
    blocked = feedback.block_reason if feedback else None
    candidate = response.candidates[0] if response.candidates else None
    parts = (candidate.content.parts if candidate and candidate.content else None) or []
    finish = candidate.finish_reason if candidate else None
    return Reply(
        text="".join(part.text or "" for part in parts if not part.thought),
        finish=finish.value if finish else ("" if candidate else "NO_CANDIDATE"),
        blocked=blocked.value if blocked else "",
        usage=_usage(response.usage_metadata),
        model=response.model_version or "",
    )


def _usage(counts: types.GenerateContentResponseUsageMetadata | None) -> Usage:
    """Return the tokens paid for."""
    if not counts or not counts.prompt_token_count:
        return Usage(counted=False)
    written, thought = counts.candidates_token_count, counts.thoughts_token_count
    return Usage(counts.prompt_token_count, (written or 0) + (thought or 0))
