"""API keys: from the environment only, and never in anything that is written."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable

from abo_vqa.core.errors import UserError

ONE, MANY = "GEMINI_API_KEY", "GEMINI_API_KEYS"
_HIDDEN = "<api key>"
# Google's keys by their shape, in case a message quotes one that we never had.
_SHAPE = re.compile(r"AIza[0-9A-Za-z_\-]{10,}")


def api_keys() -> list[str]:
    """The keys in GEMINI_API_KEYS (commas or spaces between them), else the one in GEMINI_API_KEY.

    Raises:
        UserError: there is none.
    """
    found = re.split(r"[\s,;]+", os.environ.get(MANY) or os.environ.get(ONE) or "")
    keys = list(dict.fromkeys(key for key in found if key))
    if not keys:
        raise UserError(
            f"no API key: set {ONE}, or {MANY} with several separated by commas, in the "
            "environment. Without a key: generate.annotator offline."
        )
    return keys


def key_id(key: str) -> str:
    """A name for a key that gives nothing away: its quota is kept under it."""
    return hashlib.sha256(b"abo-vqa quota " + key.encode()).hexdigest()[:12]


def redact(text: str, keys: Iterable[str]) -> str:
    """`text` without any of the keys; servers do quote them in error messages."""
    for key in keys:
        text = text.replace(key, _HIDDEN)
    return _SHAPE.sub(_HIDDEN, text)
