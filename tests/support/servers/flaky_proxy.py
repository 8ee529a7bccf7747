"""A reverse proxy before a real server, that fails as proxies and servers do when it is told to."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HTML = b"<html><body>no healthy upstream</body></html>"


class Handler(BaseHTTPRequestHandler):
    """Passes a request on, or fails as its proxy's mode says."""

    protocol_version = "HTTP/1.1"
    proxy: FlakyProxy

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self.chunks()
        if self.proxy.mode == "" or self.proxy.only not in self.path:
            self.pass_on(body)
        elif self.proxy.mode == "hang":
            self.proxy.ended.wait()
            self.close_connection = True
        else:
            status = 200 if self.proxy.mode == "page" else int(self.proxy.mode)
            self.answer(status, "text/html", HTML)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any

    def chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def pass_on(self, body: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.target, timeout=60)
        skipped = ("transfer-encoding", "content-length", "connection")
        kept = {k: v for k, v in self.headers.items() if k.lower() not in skipped}
        try:
            connection.request(self.command, self.path, body, kept)
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            self.answer(502, "text/html", HTML)
            return
        finally:
            connection.close()
        self.answer(answer.status, answer.getheader("Content-Type") or "", content)

    def answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


class FlakyProxy:
    """Passes everything on, except while `mode` says otherwise.

    `mode` is an HTTP status, answered with a page of HTML; "page" for such a page with status 200,
    as a login's; "hang" to accept and never answer; "" to pass on. `only` limits that to requests
    whose path has this text.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.mode: int | str = ""
        self.only = ""
        self.ended = threading.Event()
        handler = type("Bound", (Handler,), {"proxy": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.port = self.http.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fail(self, mode: int | str, only: str = "") -> None:
        self.mode, self.only = mode, only

    def __enter__(self) -> FlakyProxy:
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.http.shutdown()
        self.http.server_close()
