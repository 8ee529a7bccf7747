"""API keys: read from the environment only, and never part of anything that is written."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError

if TYPE_CHECKING:
    from abo_vqa.core.service_config import ServiceConfig

# Protocol → the variables of one key and of several.
_VARIABLES = {
    "gemini": ("GEMINI_API_KEY", "GEMINI_API_KEYS"),
    "gemini-legacy": ("GEMINI_API_KEY", "GEMINI_API_KEYS"),
    "openai": ("OPENAI_API_KEY", "OPENAI_API_KEYS"),
}
KEY_SEPARATORS = re.compile(r"[\s,;]+")  # several keys in one variable
_NO_KEY = "none-needed"  # what servers of one's own are sent: the SDK demands a key
_REPLACEMENT = "<api key>"
_SHORTEST = 8  # characters of a key that is worth hiding
# The patterns of Google's and OpenAI's keys, in case a message quotes one that isn't in the
# environment; OpenAI masks the middle of a key by asterisks.
_KEY_PATTERN = re.compile(r"AIza[0-9A-Za-z_\-]{10,}|\bsk-[0-9A-Za-z_\-*]{8,}")


def key_variables(protocol: str) -> tuple[str, str]:
    """Return the names of the variables with one key, and with several.

    Args:
        protocol: as in `generate.annotator`.
    """
    return _VARIABLES[protocol]


def keys_in_environment(protocol: str) -> list[str]:
    """Return the keys that are set, each once; those of the variable for several take precedence.

    Args:
        protocol: as in `generate.annotator`.
    """
    one, several = _VARIABLES[protocol]
    text = os.environ.get(several) or os.environ.get(one) or ""
    return list(dict.fromkeys(key for key in KEY_SEPARATORS.split(text) if key))


def api_keys(settings: ServiceConfig) -> list[str]:
    """Return the keys of a service.

    Args:
        settings: the protocol and the address.

    Raises:
        UserError: there is none. Only a server with an address of its own may need none.
    """
    keys = keys_in_environment(settings.protocol)
    if keys:
        return keys
    if settings.protocol == "openai" and settings.base_url:
        return [_NO_KEY]
    one, several = _VARIABLES[settings.protocol]
    hint = " For a server of your own, set its base_url." if settings.protocol == "openai" else ""
    raise UserError(
        f"no API key: set {one}, or {several} with several separated by commas, in the "
        f"environment.{hint} To work without a key, set generate.annotator: offline."
    )


def key_id(key: str) -> str:
    """Return an identifier that doesn't reveal the key; the ledger keeps its quota under it."""
    return hashlib.sha256(b"abo-vqa quota " + key.encode()).hexdigest()[:12]


def redact(text: str, keys: Iterable[str]) -> str:
    """Return `text` without any of the keys: servers quote them in error messages.

    Args:
        text: a message.
        keys: the keys to remove, besides everything that looks like a vendor's. Short ones stay:
            "x" and "EMPTY" are what servers of one's own are given, no secrets, and parts of words.
    """
    # The longest first: one key may begin as another does.
    for key in sorted(keys, key=len, reverse=True):
        if key != _NO_KEY and len(key) >= _SHORTEST:
            text = text.replace(key, _REPLACEMENT)
    return _KEY_PATTERN.sub(_REPLACEMENT, text)
