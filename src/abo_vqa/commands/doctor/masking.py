"""Removes secrets from whatever is printed: reports are pasted where others read them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from abo_vqa.core.tracking.addresses import LOGIN
from abo_vqa.remote.keys import KEY_SEPARATORS, redact

_MASK = "***"
_WORDS = "TOKENS?|KEYS?|SECRETS?|PASS|PASSWORD|PASSWD|PWD|CREDENTIALS?|AUTH|SIG|SIGNATURE"
# Variables whose values are secrets, by their names.
_NAMES = re.compile(rf"(?:^|[_-])(?:API)?(?:{_WORDS})(?:$|[_-])", re.IGNORECASE)
_SHORTEST = 6  # characters: "1" and "true" are no secrets, and would be hidden everywhere
# name=value in an address or a connection string, "name": "value" in JSON.
_SETTING = re.compile(
    rf"((?:\b|[\w.-]*[_.-]|[a-z]*)(?:{_WORDS})(?:[\"']?\s*:\s*[\"']|\s*=\s*[\"']?))[^\s&;,\"']+",
    re.IGNORECASE,
)
_HUB = re.compile(r"\bhf_[A-Za-z0-9]{8,}")  # the model hub's tokens by their shape


def mask(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Hide logins in addresses, keys, tokens, and the environment's secrets.

    Args:
        text: any text.
        environment: the environment's variables.
    """
    # The longest first: one secret may begin as another does.
    for value in sorted(_secrets(environment), key=len, reverse=True):
        text = text.replace(value, _MASK)
    text = LOGIN.sub(rf"\1{_MASK}@", text)
    text = _SETTING.sub(rf"\1{_MASK}", text)
    return _HUB.sub(_MASK, redact(text, ()))


def _secrets(environment: Mapping[str, str]) -> set[str]:
    """List an environment's secrets: values of variables called so, passwords in URLs."""
    secrets: set[str] = set()
    for name, value in environment.items():
        if _NAMES.search(name):
            secrets.update({value, *KEY_SEPARATORS.split(value)})
        for secret in _passwords(value):
            secrets.update({secret, unquote(secret)})
    return {value for value in secrets if len(value) >= _SHORTEST and not os.path.exists(value)}  # noqa: PTH110


def _passwords(value: str) -> Iterator[str]:
    """Find the passwords in a value's addresses; a user without one is a token."""
    for _, login in LOGIN.findall(value):
        user, _, password = login.partition(":")
        yield password or user
