"""Whether the cluster still runs: Ray itself ends the process, a minute after it has gone."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import ray

from abo_vqa.core.errors import RetryLaterError

_CHECK_S = 5.0  # between two checks
_CONNECT_S = 3.0
_MISSES = 3  # of the head, before it is gone: its network may fail for a moment


class ClusterWatch:
    """Asks the head and this machine's own part of the cluster for a connection now and then.

    Attributes:
        lost: whether one of them has gone; nothing can be asked of the cluster then.
    """

    def __init__(self) -> None:
        context = ray.get_runtime_context()
        host, _, port = context.gcs_address.rpartition(":")
        self._head = (host, int(port))
        own = context.get_node_id()
        self._here = next(
            (node["NodeManagerAddress"], int(node["NodeManagerPort"]))
            for node in ray.nodes()  # type: ignore[no-untyped-call]
            if node["NodeID"] == own
        )
        self._misses, self._checked = 0, time.monotonic()
        self.lost = False

    def check(self, *, now: bool = False) -> None:
        """Check the cluster, if the last time was a while ago.

        Args:
            now: or in any case.

        Raises:
            RetryLaterError: it has gone.
        """
        if not now and time.monotonic() - self._checked < _CHECK_S:
            return
        self._misses = 0 if _answers(self._head) else self._misses + 1
        self._checked = time.monotonic()
        if self._misses < _MISSES and _answers(self._here):
            return
        self.lost = True
        place = ":".join(map(str, self._head))
        raise RetryLaterError(
            f"the Ray cluster at {place} has ended, or its part on this machine has. What is "
            f"finished is kept: run the same command to continue. Ray's logs are in {log_folder()}."
        )


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, _CONNECT_S).close()
    except OSError:
        return False
    return True


def log_folder() -> Path:
    """Return where Ray's logs are, on this machine or one with the same settings."""
    return Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray"  # Ray's own default
