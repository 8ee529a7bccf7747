"""What errors say about the parameter for thinking: vendors and servers each name it otherwise."""

from __future__ import annotations

import re

# Not the end of a model's name, as in "Qwen3-VL-8B-Thinking".
_THINKING = re.compile(
    r"(?<![-\w])(reasoning|thinking)(?![-\w])|(?<![-\w])(reasoning|thinking)_?(effort|level|budget)"
    r"|\beffort\b",
    re.IGNORECASE,
)
# How they word that another value is needed, as opposed to the parameter being unknown.
_OTHER_VALUE = re.compile(
    r"supported values?\b|must be|should be|one of|invalid (\w+ )?value|mandatory"
    r"|(cannot|can't) be disabled|only works in|thinking level",
    re.IGNORECASE,
)


def is_about_thinking(text: str) -> bool:
    """Return whether a message, or a parameter's name, is about thinking.

    One that names the temperature isn't: some models take one temperature alone when thinking.

    Args:
        text: what a server says.
    """
    return bool(_THINKING.search(text)) and "temperature" not in text


def refuses_thinking(message: str, parameter: str = "") -> bool:
    """Return whether a request was refused because its value for thinking isn't one that suits.

    Sent without any, it would be answered, and the model would think as it likes. A server that
    doesn't know the parameter at all is another matter: its models don't think, or can't be told.

    Args:
        message: the error's text.
        parameter: the parameter that the server names as the cause, or "".
    """
    return is_about_thinking(parameter or message) and bool(_OTHER_VALUE.search(message))
