"""A real S3-compatible server (moto's), and a wire to it that can be cut."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import requests
from moto.server import ThreadedMotoServer

KEY, SECRET = "testing", "not-to-be-seen"


class ObjectStore:
    """The server."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)

    def __enter__(self) -> ObjectStore:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.host, self.port = str(host), int(port)
        self.endpoint = f"http://{host}:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def upload(self, folder: Path, bucket: str, prefix: str) -> str:
        """Copy a folder's archives into a new bucket; return their URL."""
        client = self.client()
        client.create_bucket(Bucket=bucket)
        for file in sorted(folder.glob("*.tar")):
            client.upload_file(str(file), bucket, f"{prefix}/{file.name}")
        return f"s3://{bucket}/{prefix}"

    @contextlib.contextmanager
    def asking_for_credentials(self) -> Iterator[None]:
        """Check keys and signatures, as a real store does."""
        self._reset_auth("0")
        try:
            yield
        finally:
            self._reset_auth("inf")

    def _reset_auth(self, actions: str) -> None:
        address = f"{self.endpoint}/moto-api/reset-auth"
        requests.post(address, data=actions, timeout=10).raise_for_status()


class CutWire:
    """Passes bytes between a client and a server, and cuts the connection after some of them.

    `cuts` holds, for the next connections, how many bytes of the server's reply pass; then the
    connection is reset. `down` refuses all.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.cuts: list[int] = []
        self.down = False
        self.passed = 0

    def __enter__(self) -> CutWire:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.down:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                for args in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass, args=args, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, reply: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.down:
                    break
                if reply and self.cuts and len(data) > 1000:  # a body, not only a head
                    target.sendall(data[: self.cuts.pop(0)])
                    break
                target.sendall(data)
                self.passed += len(data) if reply else 0
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class WebFolder:
    """Serves a folder over HTTP, with ranges and ETags, as a store does for the public."""

    def __init__(self, folder: Path) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                file = folder / self.path.rpartition("/")[2]
                if not file.is_file():
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                data = file.read_bytes()
                span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
                start, end = (int(span[1]), int(span[2]) + 1) if span else (0, len(data))
                self.send_response(206 if span else 200)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(len(data[start:end])))
                if span:
                    self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
                self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(data[start:end])

            do_HEAD = do_GET

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/shop"

    def __enter__(self) -> WebFolder:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
