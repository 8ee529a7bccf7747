"""What stands before every request: headers of security, and limits on what is uploaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from abo_vqa.serving.problems import ProblemError, internal_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECURE = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
_KIND = b"x-problem-kind"  # for the metrics; removed before the response leaves
Observe = Callable[[str, int, str, float], None]
"""`observe(path, status, kind, seconds)`: called after each response."""


class RequestGuard:
    """ASGI middleware: adds headers, limits the body's size and how long it takes, and observes.

    Args:
        app: the application.
        paths: the application's own paths, by which responses are counted.
        foreign: beginnings of paths that are left alone: a page has its own rules.
        max_body: bytes.
        upload_timeout: seconds for a body to arrive.
        observe: is told of each response.
    """

    def __init__(
        self,
        app: ASGIApp,
        paths: Iterable[str],
        foreign: Sequence[str],
        max_body: int,
        upload_timeout: float,
        observe: Observe,
    ) -> None:
        self._app = app
        self._paths = frozenset(paths)
        self._foreign = tuple(foreign)
        self._max_body = max_body
        self._upload_timeout = upload_timeout
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; see the ASGI specification."""
        if scope["type"] != "http" or self._is_foreign(scope["path"]):
            await self._app(scope, receive, send)
            return
        start, status, kind, started = time.perf_counter(), 500, "", False

        async def secured(message: Message) -> None:
            nonlocal status, kind, started
            if message["type"] == "http.response.start":
                started = True
                headers = list(message.get("headers", []))
                status = message["status"]
                kind = next((v.decode() for name, v in headers if name == _KIND), "")
                message["headers"] = [h for h in headers if h[0] != _KIND]
                message["headers"] += _SECURE
            await send(message)

        try:
            if too_large := self._announced(scope):
                await too_large.response()(scope, receive, secured)
            else:
                await self._app(scope, self._limited(receive), secured)
        except Exception as error:
            if started:
                raise
            # Here: outside, the response would have no headers and no kind for the metrics.
            await internal_problem(error)(scope, receive, secured)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            seconds = time.perf_counter() - start
            self._observe(path, status, kind, seconds)

    def _is_foreign(self, path: str) -> bool:
        return any(path == prefix or path.startswith(f"{prefix}/") for prefix in self._foreign)

    def _announced(self, scope: Scope) -> ProblemError | None:
        """Refuse a body that is too large before any of it is read."""
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self._max_body:
                return self._too_large()
        return None

    def _too_large(self) -> ProblemError:
        # The rest of the body isn't read: the connection can't be used again.
        return ProblemError(
            413,
            "body-too-large",
            f"the request has more than {self._max_body / 1e6:g} MB: send a smaller image",
            headers={"Connection": "close"},
        )

    def _limited(self, receive: Receive) -> Receive:
        """Count what arrives, and don't wait for ever."""
        end = time.monotonic() + self._upload_timeout
        size, complete = 0, False

        async def limited() -> Message:
            nonlocal size, complete
            if complete:  # what comes now is only whether the client has left
                return await receive()
            try:
                left = max(end - time.monotonic(), 0.001)
                message = await asyncio.wait_for(receive(), left)
            except TimeoutError:
                raise ProblemError(
                    408,
                    "upload-too-slow",
                    f"the request didn't arrive within {self._upload_timeout:g} s",
                    headers={"Connection": "close"},
                ) from None
            size += len(message.get("body", b""))
            if size > self._max_body:
                raise self._too_large()
            complete = not message.get("more_body", False)
            return message

        return limited


def http_protocol(upload_timeout: float) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol, which closes connections whose headers don't arrive.

    Args:
        upload_timeout: seconds for a request's headers.
    """

    class TimedProtocol(H11Protocol):  # type: ignore[misc]
        """HTTP/1.1 with a limit on how long headers take."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            """Start waiting for headers; see `asyncio.Protocol`."""
            super().connection_made(transport)
            self._start()

        def data_received(self, data: bytes) -> None:
            """Stop waiting once headers are complete; see `asyncio.Protocol`."""
            if self._timer is None and (self.cycle is None or self.cycle.response_complete):
                self._start()
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop()

        def connection_lost(self, exc: Exception | None) -> None:
            """Forget the connection; see `asyncio.Protocol`."""
            self._stop()
            super().connection_lost(exc)

        def _start(self) -> None:
            self._timer = self.loop.call_later(upload_timeout, self.transport.close)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return TimedProtocol
