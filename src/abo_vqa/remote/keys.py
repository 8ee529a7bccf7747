"""API keys: read from the environment only, and never part of anything that is written."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable

from abo_vqa.core.errors import UserError

KEY_VARIABLE, KEYS_VARIABLE = "GEMINI_API_KEY", "GEMINI_API_KEYS"
_REPLACEMENT = "<api key>"
# The pattern of Google's keys, in case a message quotes one that isn't in the environment.
_GOOGLE_KEY = re.compile(r"AIza[0-9A-Za-z_\-]{10,}")


def api_keys() -> list[str]:
    """Return the keys in GEMINI_API_KEYS (separated by commas or spaces), else GEMINI_API_KEY's.

    Raises:
        UserError: there is none.
    """
    text = os.environ.get(KEYS_VARIABLE) or os.environ.get(KEY_VARIABLE) or ""
    keys = list(dict.fromkeys(key for key in re.split(r"[\s,;]+", text) if key))
    if not keys:
        raise UserError(
            f"no API key: set {KEY_VARIABLE}, or {KEYS_VARIABLE} with several separated by commas, "
            "in the environment. To work without a key, set generate.annotator: offline."
        )
    return keys


def key_id(key: str) -> str:
    """Return an identifier that doesn't reveal the key; the ledger keeps its quota under it."""
    return hashlib.sha256(b"abo-vqa quota " + key.encode()).hexdigest()[:12]


def redact(text: str, keys: Iterable[str]) -> str:
    """Return `text` without any of the keys: servers quote them in error messages.

    Args:
        text: a message.
        keys: the keys to remove, besides everything that looks like one of Google's.
    """
    for key in keys:
        text = text.replace(key, _REPLACEMENT)
    return _GOOGLE_KEY.sub(_REPLACEMENT, text)
