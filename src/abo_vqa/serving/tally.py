"""How requests ended, for the log: a refusal is an answer as well."""

from __future__ import annotations

from dataclasses import dataclass

_REFUSED = ("overloaded", "stopping")  # the kinds of 503 that say no at once
_CLIENT_ERROR, _SERVER_ERROR, _CLIENT_LEFT = 400, 500, 499


@dataclass
class RequestTally:
    """How the requests with questions ended.

    Attributes:
        answered: with answers.
        refused: with the reason why there are none: a wrong request, or a full server.
        failed: the server couldn't answer, or not in time.
        left: the client closed the connection before.
    """

    answered: int = 0
    refused: int = 0
    failed: int = 0
    left: int = 0

    def count(self, status: int, kind: str) -> None:
        """Count a response.

        Args:
            status: the HTTP status.
            kind: the kind of problem, "" if there is none.
        """
        if status < _CLIENT_ERROR:
            self.answered += 1
        elif status == _CLIENT_LEFT:
            self.left += 1
        elif status < _SERVER_ERROR or kind in _REFUSED:
            self.refused += 1
        else:
            self.failed += 1

    def __str__(self) -> str:
        parts = [f"{self.answered:,} answered", f"{self.refused:,} refused"]
        parts += [f"{self.failed:,} failed"] * bool(self.failed)
        parts += [f"{self.left:,} given up by the client"] * bool(self.left)
        total = self.answered + self.refused + self.failed + self.left
        if not total:
            return "no requests"
        return f"{total:,} request{'s' * (total != 1)}: {', '.join(parts)}"
