"""Chat completions, by OpenAI's SDK: OpenAI itself and every server that speaks its protocol.

vLLM, SGLang, Ollama, LM Studio, OpenRouter, Gemini's compatible endpoint and others differ in
`base_url`, and in what they understand of the protocol: see `openai_dialect`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any

import openai
from openai.types.chat import ChatCompletion

from abo_vqa.core.errors import UserError
from abo_vqa.data.pairs import REPLY_FORMAT
from abo_vqa.remote.connections import connection_error
from abo_vqa.remote.contract import Reply, Request
from abo_vqa.remote.errors import (
    RefusedThinkingError,
    ServiceError,
    UnknownModelError,
    UnknownParameterError,
)
from abo_vqa.remote.keys import is_foreign, redact
from abo_vqa.remote.openai_dialect import Dialect
from abo_vqa.remote.openai_errors import error_from_body
from abo_vqa.remote.openai_replies import completion_reply, first_choice

if TYPE_CHECKING:
    from abo_vqa.core.service_config import ServiceConfig

_ADDRESS = "https://api.openai.com/v1"


class OpenAIClient:
    """One key's client. The SDK's own retries are off: the ledger has to know every request.

    Attributes:
        sdk: the SDK's client.
        model: the model's name.
        dialect: what of the protocol the server takes.
    """

    def __init__(
        self,
        key: str,
        settings: ServiceConfig,
        secrets: Sequence[str] = (),
        dialect: Dialect | None = None,
    ) -> None:
        """Create the SDK's client; nothing is sent yet.

        Args:
            key: the API key; servers of one's own take any.
            settings: the address, the model and how it decodes.
            secrets: all keys, to be removed from messages.
            dialect: what other keys' clients know about the server, and learn from this one; None
                starts with the whole protocol.
        """
        self._secrets = {key, *secrets}
        self._settings = settings
        self.model = settings.model
        self.dialect = dialect or Dialect.of_server(settings.base_url)
        # Named, or the SDK would take the address from the environment (OPENAI_BASE_URL): what is
        # asked of whom, and who gets the key, is in the settings.
        address = settings.base_url or _ADDRESS
        self.sdk = openai.OpenAI(
            api_key=key, base_url=address, timeout=settings.timeout_s, max_retries=0
        )
        if is_foreign(settings):  # an account at OpenAI is nobody else's business
            self.sdk.organization = self.sdk.project = None

    def body(self, request: Request) -> dict[str, Any]:
        """Return a request's parameters, as the server takes them."""
        settings = self._settings
        image = base64.b64encode(request.image).decode()
        url = {"url": f"data:{request.mime_type};base64,{image}"}
        text, instructions = request.text, request.system
        if instructions and not self.dialect.has_system_role:
            text, instructions = f"{instructions}\n\n{text}", ""
        if request.schema and self.dialect.response_format != "json_schema":
            text = f"{text}\n\n{REPLY_FORMAT}"
        user = [{"type": "image_url", "image_url": url}, {"type": "text", "text": text}]
        system = [{"role": "system", "content": instructions}] if instructions else []
        optional = {"temperature": settings.temperature, "reasoning_effort": settings.thinking}
        return {
            "model": self.model,
            "messages": [*system, {"role": "user", "content": user}],
            **self.dialect.parameters(
                settings.max_output_tokens, _json_schema(request.schema), optional
            ),
        }

    def generate(self, request: Request) -> Reply:
        """Send one request and wait for the reply; see `ModelClient`.

        Raises:
            RefusedThinkingError: no request with this value of `thinking` will be answered.
            UnknownParameterError: the server doesn't take a parameter, which later requests leave
                out. It isn't sent again here: vendors charge nothing for a refused request, but it
                counts against their quotas, so the ledger has to know the next one.
        """
        body = self.body(request)
        try:
            completion = self.sdk.chat.completions.create(**body)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            typed = self.translate(error)
            if isinstance(typed, RefusedThinkingError):
                raise typed from None
            if self.dialect.adapt(body, str(error.param or ""), str(error)):
                raise UnknownParameterError(str(typed)) from None
            raise typed from None
        except Exception as error:
            raise self.translate(error) from None  # the original holds the request's headers
        reply = self.to_reply(completion)
        self._check_format(body, reply)
        return reply

    def _check_format(self, body: Mapping[str, Any], reply: Reply) -> None:
        """Notice a server that takes a schema without keeping to it: by none of its names."""
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        names = [f'"{name}"' for name in _property_names(schema)]
        complete = reply.text and reply.finish == "STOP"
        if names and complete and not any(name in reply.text for name in names):
            self.dialect.record_ignored("json_schema")

    def count_tokens(self, _request: Request) -> int:
        """Not part of the protocol.

        Raises:
            UserError: always.
        """
        raise UserError(
            "chat completions have no call that counts tokens: leave out --count-tokens. The "
            "estimate becomes exact with the first replies."
        )

    def translate(self, error: Exception) -> ServiceError:
        """Return the typed error for one of the SDK's.

        Raises:
            Exception: the error itself if it is of no known kind (a bug, too).
        """
        if isinstance(error, openai.APIStatusError):
            headers = error.response.headers
            typed = error_from_body(error.status_code, error.body, headers, error.message)
            return typed.redacted(self.redact)
        known = (openai.APIError, JSONDecodeError, ConnectionError, TimeoutError)
        if isinstance(error, known):
            address = str(self.sdk.base_url)
            return connection_error(error, address).redacted(self.redact)
        raise error

    def redact(self, text: str) -> str:
        """Return `text` without API keys."""
        return redact(text, self._secrets)

    def to_reply(self, completion: Any) -> Reply:
        """Return a completion's text, finish reason and tokens, whatever it lacks.

        Args:
            completion: the SDK's object, or whatever the server has sent instead.

        Raises:
            ServiceError: it isn't a completion.
        """
        error = getattr(completion, "error", None)
        if isinstance(error, Mapping):  # OpenRouter reports its own providers' failures so
            code = error.get("code")
            status = code if isinstance(code, int) and code >= 400 else 502
            raise error_from_body(status, error).redacted(self.redact)
        if error:  # LM Studio's errors are a text, in a response with the status 200
            wrong_address = str(error).lower().startswith("unexpected endpoint")
            typed = UnknownModelError if wrong_address else ServiceError
            raise typed(self.redact(str(error)).rstrip("."))
        if not isinstance(completion, ChatCompletion):
            raise ServiceError("the server's answer isn't a chat completion")
        choice = first_choice(completion)
        failure = (choice.model_extra or {}).get("error") if choice else None
        if isinstance(failure, Mapping):  # OpenRouter, where a provider fails half way
            message = self.redact(str(failure.get("message") or "")).rstrip(".")
            raise ServiceError(f"the provider failed: {message}")
        return completion_reply(completion, choice)

    def close(self) -> None:
        """Close the SDK's connections."""
        self.sdk.close()


def _property_names(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of a JSON Schema's properties, however deep."""
    if "items" in schema:
        yield from _property_names(schema["items"])
    for name, value in schema.get("properties", {}).items():
        yield name
        yield from _property_names(value)


def _json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return OpenAPI's schema as a strict JSON Schema, whose root has to be an object."""
    if not schema:
        return {}
    converted = _strict(schema)
    if converted["type"] == "object":
        return converted
    return _strict({"type": "OBJECT", "properties": {"items": schema}})


def _strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema in which every property is required and no other is allowed."""
    kind = str(schema["type"]).lower()
    if kind == "array":
        return {"type": kind, "items": _strict(schema["items"])}
    if kind != "object":
        return {"type": kind}
    properties = {name: _strict(value) for name, value in schema["properties"].items()}
    return {
        "type": kind,
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
