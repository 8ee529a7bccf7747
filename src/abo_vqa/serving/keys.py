"""API keys from the environment: several at a time, so that they can be changed one by one."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping

from abo_vqa.core.errors import UserError
from abo_vqa.serving.problems import ProblemError

API_KEYS = "ABO_VQA_API_KEYS"
"""Keys that may ask, separated by commas or spaces; unset: everybody may."""
ADMIN_KEYS = "ABO_VQA_ADMIN_KEYS"
"""Keys that may reload the model; unset: nobody may, over HTTP."""
_SHORTEST = 16


class KeyRing:
    """The keys that are accepted, as hashes.

    Args:
        variable: the environment's variable that holds them.

    Raises:
        UserError: a key is too short to be one.
    """

    def __init__(self, variable: str) -> None:
        keys = os.environ.get(variable, "").replace(",", " ").split()
        if any(len(key) < _SHORTEST for key in keys):
            raise UserError(
                f"{variable}: a key has fewer than {_SHORTEST} characters, which can be guessed. "
                "Make one with: openssl rand -hex 24"
            )
        self._hashes = [_digest(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def check(self, headers: Mapping[str, str]) -> None:
        """Refuse a request without a valid key.

        Args:
            headers: the request's: `Authorization: Bearer KEY`, or `X-API-Key: KEY`.

        Raises:
            ProblemError: there is no key, or it isn't valid.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        digest = _digest(given)
        # All of them, always: how long it takes says nothing about where they differ.
        matches = [hmac.compare_digest(digest, known) for known in self._hashes]
        if not any(matches):
            detail = "the key isn't valid" if given else "a key is needed"
            raise ProblemError(
                401,
                "unauthorized",
                f"{detail}: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                headers={"WWW-Authenticate": "Bearer"},
            )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
