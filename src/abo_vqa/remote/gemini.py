"""Gemini by the maintained SDK, google-genai."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any

from abo_vqa.data.pairs import reply_schema
from abo_vqa.remote.contract import Reply, Request, Usage
from abo_vqa.remote.errors import ServiceError
from abo_vqa.remote.google_errors import SAFETY_CATEGORIES, trouble
from abo_vqa.remote.keys import redact

if TYPE_CHECKING:
    from google import genai
    from google.genai import types

    from abo_vqa.config import GenerateConfig


class Gemini:
    """One key's client. The SDK's own retries are off: the ledger has to know every request."""

    def __init__(self, key: str, settings: GenerateConfig, secrets: Sequence[str] = ()) -> None:
        """
        Args:
            key: the API key. secrets: all keys, to be kept out of messages.
        """
        from google import genai
        from google.genai import types

        # A finish reason newer than the SDK is kept under its name; that is all we need.
        warnings.filterwarnings("ignore", r".* is not a valid ", module=r"google\.genai")
        self.secrets = {key, *secrets}
        self.model = settings.model
        options = types.HttpOptions(
            base_url=settings.base_url,
            api_version="v1beta",  # batches live there
            timeout=int(settings.timeout_s * 1000),
        )
        self.client: genai.Client = genai.Client(api_key=key, vertexai=False, http_options=options)
        self.config = _request_config(settings)

    def ask(self, request: Request) -> Reply:
        config = self.config.model_copy(update={"system_instruction": request.system})
        try:
            answer = self.client.models.generate_content(
                model=self.model, contents=contents(request), config=config
            )
        except Exception as error:
            raise self.translated(error) from None  # the original holds the request's headers
        return to_reply(answer)

    def count_tokens(self, request: Request) -> int:
        # The Developer API's countTokens takes no system instruction: count it as user text.
        parts = [request.system, *contents(request)]
        try:
            counted = self.client.models.count_tokens(model=self.model, contents=parts)
        except Exception as error:
            raise self.translated(error) from None
        return int(counted.total_tokens or 0)

    def translated(self, error: Exception) -> ServiceError:
        """The typed error; anything unforeseen (a bug, too) comes back as itself."""
        from google.genai.errors import APIError

        if isinstance(error, APIError):
            body = error.details.get("error", {}) if isinstance(error.details, dict) else {}
            headers = getattr(error.response, "headers", None)
            message = redact(str(error.message or ""), self.secrets)
            return trouble(
                error.code, error.status or "", message, body.get("details") or [], headers
            )
        if _is_connection_trouble(error):
            return ServiceError(redact(f"{type(error).__name__}: {error}", self.secrets))
        raise error

    def close(self) -> None:
        self.client.close()


def _is_connection_trouble(error: Exception) -> bool:
    """Timeouts, dropped connections, bodies that break off or aren't JSON."""
    # The SDK uses httpx or its fork httpx2, whichever is installed: go by the class's name.
    by_name = any(cls.__name__ == "RequestError" for cls in type(error).__mro__)
    return by_name or isinstance(error, (ConnectionError, TimeoutError, JSONDecodeError))


def contents(request: Request) -> list[Any]:
    from google.genai import types

    return [types.Part.from_bytes(data=request.picture, mime_type=request.mime), request.text]


def _request_config(settings: GenerateConfig) -> types.GenerateContentConfig:
    """Decoding, structured output and safety, without the system instruction."""
    from google.genai import types

    safety = None
    if settings.safety != "default":
        threshold = types.HarmBlockThreshold(settings.safety)
        safety = [
            types.SafetySetting(category=types.HarmCategory(category), threshold=threshold)
            for category in SAFETY_CATEGORIES
        ]
    thinking = None
    if settings.thinking:
        level = types.ThinkingLevel(settings.thinking.upper())
        thinking = types.ThinkingConfig(thinking_level=level)
    return types.GenerateContentConfig(
        temperature=settings.temperature,
        max_output_tokens=settings.max_output_tokens,
        response_mime_type="application/json",
        response_schema=reply_schema(),
        safety_settings=safety,
        thinking_config=thinking,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )


def to_reply(answer: types.GenerateContentResponse) -> Reply:
    """Text, finish reason, block reason and tokens of a response, whatever it lacks."""
    feedback = answer.prompt_feedback
    blocked = feedback.block_reason if feedback else None
    candidate = answer.candidates[0] if answer.candidates else None
    parts = (candidate.content.parts if candidate and candidate.content else None) or []
    finish = candidate.finish_reason if candidate else None
    counted = answer.usage_metadata
    return Reply(
        text="".join(part.text or "" for part in parts if not part.thought),
        finish=finish.value if finish else ("" if candidate else "NO_CANDIDATE"),
        blocked=blocked.value if blocked else "",
        usage=Usage(
            input=(counted and counted.prompt_token_count) or 0,
            output=((counted and counted.candidates_token_count) or 0)
            + ((counted and counted.thoughts_token_count) or 0),
        ),
        model=answer.model_version or "",
    )
