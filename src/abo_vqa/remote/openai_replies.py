"""What is in a chat completion: servers leave out, or replace, whatever they like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice

from abo_vqa.remote.contract import Reply, Usage
from abo_vqa.remote.errors import ServiceError
from abo_vqa.remote.journal import CUT_OFF_REASON

# The protocol's finish reasons by the names that the rest of the house knows.
_FINISH = {"stop": "STOP", "length": CUT_OFF_REASON, "content_filter": "SAFETY"}
# Open-weight models write their reasoning into the text. Without an end it was cut off; without a
# beginning that was part of the chat template's prompt.
_BEGIN = r"(?:<think(?:ing)?>|◁think▷|\[THINK\])"  # most models', Kimi-VL's, Mistral's
_END = r"(?:</think(?:ing)?>|◁/think▷|\[/THINK\])"
_REASONING = re.compile(rf"{_BEGIN}.*?(?:{_END}|\Z)|\A.*?{_END}", re.DOTALL)


def first_choice(completion: ChatCompletion) -> Choice | None:
    """Return a completion's first choice. The SDK validates nothing: anything may be in its place.

    Raises:
        ServiceError: something else is.
    """
    choices = completion.choices or []
    if not isinstance(choices, list) or (choices and not isinstance(choices[0], Choice)):
        raise ServiceError("the server's answer isn't a chat completion")
    return choices[0] if choices else None


def _text(content: Any) -> str:
    """Return a message's text; some servers send a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, Mapping))


def completion_reply(completion: ChatCompletion, choice: Choice | None) -> Reply:
    """Return a completion's text, finish reason and tokens, whatever it lacks.

    Args:
        completion: as the SDK gives it.
        choice: its first one.
    """
    message = choice.message if choice else None
    if not isinstance(message, ChatCompletionMessage):
        message = None
    text = _REASONING.sub("", _text(message and message.content)).strip()
    reason = str((choice and choice.finish_reason) or "")
    finish = _FINISH.get(reason, reason.upper()) if choice else "NO_CANDIDATE"
    if message and message.refusal:
        text, finish = "", "REFUSAL"
    return Reply(text, finish, usage=_usage(completion.usage), model=completion.model or "")


def _usage(counts: Any) -> Usage:
    """Return the tokens paid for. Some servers count none, or only those of the prompt."""
    if not isinstance(counts, CompletionUsage):
        return Usage(counted=False)
    numbers = (counts.prompt_tokens, counts.completion_tokens, counts.total_tokens)
    given, written, total = (number if isinstance(number, int) else 0 for number in numbers)
    if not given or not any(isinstance(number, int) for number in numbers[1:]):
        return Usage(counted=False)
    # Some servers leave reasoning out of the completion's tokens, but not out of the total.
    return Usage(given, max(written, total - given))
