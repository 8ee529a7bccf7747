"""A file server on localhost that misbehaves on command: drops, stalls, lies, changes its file."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Attributes:
        drop_after: bytes of the body after which the connection closes.
        stall_after: bytes of the body after which nothing more comes.
        claim: Content-Length to announce instead of the true one.
        status: answer this status, without the file.
        retry_after: seconds for the Retry-After header.
        change_to: before answering, the file becomes this.
    """

    drop_after: int | None = None
    stall_after: int | None = None
    claim: int | None = None
    status: int = 200
    retry_after: int | None = None
    change_to: bytes | None = None


@dataclass
class FileServer:
    """Serves `content` at /file.tar. Use as a context manager.

    Attributes:
        faults: one per request, in order; afterwards all goes well.
        validator: "etag", "weak" (a weak ETag and a date), "date", or "none".
        ranges: whether Range is understood; honest: whether If-Range is.
        chunked: send without Content-Length.
        seen: headers of the requests so far.
    """

    content: bytes
    faults: list[Fault] = field(default_factory=list)
    validator: str = "etag"
    ranges: bool = True
    honest: bool = True
    chunked: bool = False
    seen: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0

    def __enter__(self) -> FileServer:
        outer = self
        self.stopping = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/file.tar"

    def etag(self) -> str:
        return f'"{hashlib.md5(self.content).hexdigest()}"'

    def date(self) -> str:
        # A date that changes with the content, as a real one would.
        seconds = int(hashlib.md5(self.content).hexdigest()[:6], 16)
        return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(1_600_000_000 + seconds))

    def validators(self) -> dict[str, str]:
        return {
            "etag": {"ETag": self.etag(), "Last-Modified": self.date()},
            "weak": {"ETag": f"W/{self.etag()}", "Last-Modified": self.date()},
            "date": {"Last-Modified": self.date()},
            "none": {},
        }[self.validator]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.seen.append(dict(handler.headers))
        fault = self.faults.pop(0) if self.faults else Fault()
        if fault.change_to is not None:
            self.content = fault.change_to
        if fault.status != 200:
            handler.send_response(fault.status)
            if fault.retry_after is not None:
                handler.send_header("Retry-After", str(fault.retry_after))
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start = self.start_of_range(handler)
        if start is not None and start >= len(self.content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        self.send(handler, fault, start)

    def start_of_range(self, handler: BaseHTTPRequestHandler) -> int | None:
        """First byte to send if a range applies, else None."""
        wanted, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
        if not wanted or not self.ranges:
            return None
        if self.honest and condition and condition not in (self.etag(), self.date()):
            return None
        return int(wanted.removeprefix("bytes=").rstrip("-"))

    def send(self, handler: BaseHTTPRequestHandler, fault: Fault, start: int | None) -> None:
        body = self.content[start or 0 :]
        handler.send_response(200 if start is None else 206)
        for name, value in self.validators().items():
            handler.send_header(name, value)
        if start is not None:
            total = len(self.content)
            handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if self.chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Content-Length", str(fault.claim or len(body)))
        handler.end_headers()
        until = fault.drop_after if fault.drop_after is not None else fault.stall_after
        part = body if until is None else body[:until]
        if fault.claim is not None:
            part = part[: fault.claim]
        self.sent += len(part)
        if self.chunked:
            part = b"%x\r\n%s\r\n" % (len(part), part) + (b"0\r\n\r\n" if until is None else b"")
        handler.wfile.write(part)
        handler.wfile.flush()
        if fault.stall_after is not None:
            self.stopping.wait(30)
        if until is not None or fault.claim is not None:
            handler.close_connection = True
