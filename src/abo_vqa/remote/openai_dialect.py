"""What a chat-completions server understands of the protocol: each leaves out something else.

A server says so by refusing a request (HTTP 400 or 422). That request is sent again without what
was refused, and so are all later ones, with whichever key. Some say nothing and ignore the schema:
their replies tell.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from abo_vqa.core.log import get_logger
from abo_vqa.remote.thinking_errors import is_about_thinking

logger = get_logger(__name__)

# How servers word that they don't know a parameter, as opposed to its value being out of range.
_UNSUPPORTED = re.compile(
    r"unsupported|not (supported|permitted|allowed|available|implemented)"
    r"|(does not|doesn't) support|unknown|unrecogni[sz]ed|unexpected|extra (inputs|fields)"
    r"|not enabled|unavailable|only the default|only be set|use '?max_|instead"
    r"|(is not|isn't) compatible|invalid (parameter|schema|type)|grammar",
    re.IGNORECASE,
)
# Whatever else a message about the form of replies says: less can be asked for.
_FORMAT = re.compile(
    r"response[_ ]?(format|schema|mime)|json[_ ](schema|object|mode)|guided|structured output"
    r"|grammar",
    re.IGNORECASE,
)
_SYSTEM_ROLE = re.compile(
    r"\b(system|developer)[ _]?(role|instruction|message|prompt)", re.IGNORECASE
)
# Chat templates without a system role say what they want instead.
_USER_ROLE = re.compile(r"roles? must alternate|only user\b.*\broles", re.IGNORECASE)
_SMALLER_FORMATS = {"json_schema": "json_object", "json_object": ""}


def parameter_names(body: Mapping[str, Any]) -> list[str]:
    """Return the names of a request's parameters that a server may refuse, and its format."""
    kind = body.get("response_format", {}).get("type")
    optional = ("temperature", "reasoning_effort", "max_tokens", "max_completion_tokens")
    names = [name for name in optional if name in body] + ([kind] if kind else [])
    return [*names, "system_role"] if _has_system(body) else names


def from_parameter_names(names: Sequence[str]) -> dict[str, Any]:
    """Return for `parameter_names` a body that `Dialect.adapt` takes."""
    body: dict[str, Any] = dict.fromkeys(name for name in names if name not in _SMALLER_FORMATS)
    for kind in set(names) & set(_SMALLER_FORMATS):
        body["response_format"] = {"type": kind}
    return body


def _has_system(body: Mapping[str, Any]) -> bool:
    """Return whether a request, or what `from_parameter_names` knows of it, has a system turn."""
    turns = body.get("messages", ())
    return "system_role" in body or any(turn.get("role") == "system" for turn in turns)


class Dialect:
    """Which parameters one server takes. Thread-safe.

    Attributes:
        response_format: "json_schema", "json_object", or "" where the prompt alone asks for JSON.
        token_limit: the name of the limit on output tokens.
        refused: the names of optional parameters that the server has refused.
        limit_renamed: whether the first name of the limit was refused.
        has_system_role: whether instructions have a turn of their own; else the user's has them.
    """

    def __init__(self, token_limit: str) -> None:
        """Start with the whole protocol.

        Args:
            token_limit: "max_completion_tokens", or "max_tokens", which older servers know.
        """
        self.response_format = "json_schema"
        self.token_limit = token_limit
        self.refused: set[str] = set()
        self.limit_renamed = False
        self.has_system_role = True
        self._lock = threading.Lock()

    @classmethod
    def of_server(cls, base_url: str | None) -> Dialect:
        """Return the dialect that a server is first spoken to in.

        Args:
            base_url: its address; None is OpenAI's own.
        """
        # Servers of one's own know the old name best; OpenAI's newer models refuse it.
        return cls("max_tokens" if base_url else "max_completion_tokens")

    def parameters(
        self, limit: int, schema: Mapping[str, Any], optional: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the parameters that the server takes.

        Args:
            limit: output tokens at most.
            schema: what the reply has to look like, in JSON Schema; {} for free text.
            optional: parameters that a server may refuse; those that are None are left out.
        """
        values: dict[str, Any] = {self.token_limit: limit}
        for name, value in optional.items():
            if value is not None and name not in self.refused:
                values[name] = value
        if schema and self.response_format == "json_schema":
            named = {"name": "reply", "strict": True, "schema": schema}
            values["response_format"] = {"type": "json_schema", "json_schema": named}
        elif schema and self.response_format:
            values["response_format"] = {"type": self.response_format}
        return values

    def adapt(self, sent: Mapping[str, Any], parameter: str, message: str) -> bool:
        """Learn from a refused request; return whether sending it again makes sense.

        Args:
            sent: the parameters of the refused request.
            parameter: the one that the server names as the cause, or "".
            message: the server's message.
        """
        about, is_unsupported = f"{parameter} {message}", bool(_UNSUPPORTED.search(message))
        with self._lock:
            if "response_format" in sent and _FORMAT.search(about):
                self._replace_format(sent["response_format"]["type"], "take")
                return True
            names_role = is_unsupported and _SYSTEM_ROLE.search(about)
            if _has_system(sent) and (names_role or _USER_ROLE.search(message)):
                self._merge_system()
                return True
            return is_unsupported and self._leave_out(sent, parameter, message)

    def _leave_out(self, sent: Mapping[str, Any], parameter: str, message: str) -> bool:
        """Leave out, or rename, the parameter that isn't known; return whether there is one."""
        limit = next(name for name in sent if name.startswith("max_"))
        if parameter == limit or (not parameter and limit in message):
            return self._rename_limit(limit)
        about = f"{parameter} {message}"
        named = {
            "temperature": "temperature" in about,
            "reasoning_effort": is_about_thinking(about),
        }
        for name, is_named in named.items():
            if is_named and name in sent:
                if name not in self.refused:
                    self.refused.add(name)
                    logger.warning(f"the server doesn't take {name}: continuing without it")
                return True
        return False

    def record_ignored(self, kind: str) -> None:
        """Ask for less than a format that the server takes, but doesn't keep to.

        Args:
            kind: the type of `response_format` that was sent.
        """
        with self._lock:
            self._replace_format(kind, "keep to")

    def _merge_system(self) -> None:
        """Put instructions into the user's turn, unless another request has found out before."""
        if self.has_system_role:
            self.has_system_role = False
            logger.info("the server doesn't take a system role: the user's turn has instructions")

    def _replace_format(self, kind: str, verb: str) -> None:
        """Continue with the next smaller format, unless another request has found out before."""
        if self.response_format == kind:
            self.response_format = _SMALLER_FORMATS[kind]
            now = self.response_format or "the prompt alone"
            logger.info(f"the server doesn't {verb} {kind}: continuing with {now}")

    def _rename_limit(self, refused: str) -> bool:
        """Use the other name of the limit, unless that was refused before."""
        if self.token_limit == refused:
            if self.limit_renamed:
                return False
            self.limit_renamed = True
            names = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
            self.token_limit = names[refused]
        return True
