"""API keys: read from the environment only, and never part of anything that is written."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

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
NO_KEY = "none-needed"  # what servers of one's own are sent: the SDK demands a key
_REPLACEMENT = "<api key>"
_SHORTEST = 8  # characters of a key that is worth hiding
# The patterns of Google's and OpenAI's keys, in case a message quotes one that isn't in the
# environment; OpenAI masks the middle of a key by asterisks.
_KEY_PATTERN = re.compile(r"AIza[0-9A-Za-z_\-]{10,}|\bsk-[0-9A-Za-z_\-*]{8,}")


def vendor_variables(protocol: str) -> tuple[str, str]:
    """Return the names of the variables with a vendor's one key, and with several.

    Args:
        protocol: as in `generate.annotator`.
    """
    return _VARIABLES[protocol]


def key_variables(settings: ServiceConfig) -> tuple[str, ...]:
    """Return the names of the variables that may hold a service's keys; () if it is sent none.

    A vendor's key is for the vendor. Any other server of chat completions is sent the key whose
    variable its settings name, and nothing without.

    Args:
        settings: the protocol, the address, and the variable.
    """
    if settings.key_variable:
        return (settings.key_variable,)
    return () if is_foreign(settings) else vendor_variables(settings.protocol)


def is_foreign(settings: ServiceConfig) -> bool:
    """Return whether a server speaks OpenAI's protocol without being OpenAI's.

    Args:
        settings: the protocol and the address.
    """
    if settings.protocol != "openai" or not settings.base_url:
        return False
    parts = urlsplit(settings.base_url)
    own = f".{parts.hostname}".endswith(".api.openai.com")  # also eu.api.openai.com
    return not (own and parts.scheme == "https")


def keys_in_environment(variables: Sequence[str]) -> list[str]:
    """Return the keys that are set, each once; a later variable takes precedence.

    Args:
        variables: their names; each may hold several keys, separated by commas.
    """
    values = (os.environ.get(name) for name in reversed(variables))
    text = next(filter(None, values), "")
    return list(dict.fromkeys(key for key in KEY_SEPARATORS.split(text) if key))


def api_keys(settings: ServiceConfig) -> list[str]:
    """Return the keys of a service.

    Args:
        settings: the protocol, the address, and the keys' variable.

    Raises:
        UserError: there is none, or one can't be sent. Only a server with an address of its own
            may need none.
    """
    variables = key_variables(settings)
    if not variables:
        return [NO_KEY]
    if keys := keys_in_environment(variables):
        _require_ascii(keys, variables)
        return keys
    if settings.key_variable:
        raise UserError(
            f"no API key: key_variable names {redact(settings.key_variable, ())}, which isn't set "
            "in the environment. Set it (several keys are separated by commas), or name another."
        )
    one, several = variables
    hint = " For a server of your own, set its base_url." if settings.protocol == "openai" else ""
    raise UserError(
        f"no API key: set {one}, or {several} with several separated by commas, in the "
        f"environment.{hint} To work without a key, set generate.annotator: offline."
    )


def _require_ascii(keys: Sequence[str], variables: Sequence[str]) -> None:
    """Check that keys can be sent: HTTP's headers hold nothing but ASCII.

    Raises:
        UserError: one can't, as a rule because it was copied from formatted text.
    """
    for number, key in enumerate(keys, 1):
        if strange := next((c for c in key if not "!" <= c <= "~"), None):
            name = unicodedata.name(strange, "a control character")
            raise UserError(
                f"API key number {number} in {' or '.join(variables)}: its character "
                f"{key.index(strange) + 1} is {strange!r} ({name}), and keys consist of ASCII "
                "characters. Copy the key again."
            )


def rejected_key_advice(settings: ServiceConfig, prefix: str = "") -> str:
    """Return what to do about a rejected key.

    Args:
        settings: the service.
        prefix: what the names of its settings begin with: "generate.", or "".
    """
    if variables := key_variables(settings):
        return f"Check {' or '.join(variables)} in the environment."
    return (
        f"This server was sent no key: keys of {' or '.join(vendor_variables('openai'))} are for "
        f"OpenAI. Put its key into a variable of the environment, and set {prefix}key_variable to "
        "the variable's name."
    )


def key_id(key: str, settings: ServiceConfig) -> str:
    """Return an identifier that doesn't reveal the key; the ledger keeps its quota under it.

    Args:
        key: the key.
        settings: the service. Servers of one's own are sent no key, or all the same: to tell them
            apart, their address is part of it.
    """
    address = str(settings.base_url).rstrip("/") if is_foreign(settings) else ""
    return hashlib.sha256(f"abo-vqa quota {key}{address}".encode()).hexdigest()[:12]


def redact(text: str, keys: Iterable[str]) -> str:
    """Return `text` without any of the keys: servers quote them in error messages.

    Args:
        text: a message.
        keys: the keys to remove, besides everything that looks like a vendor's. Short ones stay:
            "x" and "EMPTY" are what servers of one's own are given, no secrets, and parts of words.
    """
    # The longest first: one key may begin as another does.
    for key in sorted(keys, key=len, reverse=True):
        if key != NO_KEY and len(key) >= _SHORTEST:
            text = text.replace(key, _REPLACEMENT)
    return _KEY_PATTERN.sub(_REPLACEMENT, text)
