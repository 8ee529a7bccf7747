"""A model hub that speaks the real one's protocol as far as downloads need it."""

from __future__ import annotations

import hashlib
import json
import threading
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_OfAnAccountWithAccess"


class ModelHub:
    """Serves folders as repositories; counts what it is asked for.

    Args:
        repositories: name ("org/model") → folder.
        claimed: file name → the size that the hub states for it, where it isn't the true one.
        gated: patterns of files that are given to `TOKEN` only, as the files of repositories are
            whose licence has to be accepted.
        port: to listen on; 0 is any that is free.
    """

    def __init__(
        self,
        repositories: dict[str, Path],
        claimed: dict[str, int] | None = None,
        gated: tuple[str, ...] = (),
        port: int = 0,
    ):
        self.repositories, self.claimed, self.gated = repositories, claimed or {}, gated
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path = request.path.partition("?")[0].strip("/")
        self.asked.append(f"{request.command} {path}")
        if not path:
            return send(request, 200, b"a model hub", body)
        for name, folder in self.repositories.items():
            mine = path.startswith((f"api/models/{name}", f"{name}/resolve/"))
            if mine and self.is_closed(path, request):
                return self.refuse(request, name)
            if path == f"api/models/{name}/auth-check":
                return send(request, 200, b"{}", body, {}, "application/json")
            if path.startswith(f"api/models/{name}"):
                if "/tree/" in path:  # asked for chat templates, of which there are none
                    return send(request, 200, b"[]", body, {}, "application/json")
                return self.describe(request, folder, body)
            if path.startswith(f"{name}/resolve/"):
                return self.resolve(request, folder / path.split("/", 4)[-1], body)
        return send(request, 404, b"", body, {"X-Error-Code": "RepoNotFound"})

    def is_closed(self, path: str, request: Any) -> bool:
        """Whether a request is for a gated file, without a token that has access to it."""
        file = path.rpartition("/")[2]
        gated = any(fnmatch(file, pattern) for pattern in self.gated)
        closed = gated or (bool(self.gated) and file == "auth-check")
        return closed and request.headers.get("Authorization") != f"Bearer {TOKEN}"

    def refuse(self, request: Any, name: str) -> None:
        known = "Authorization" in request.headers
        reason = "you are not in the authorized list" if known else "You must be authenticated"
        headers = {"X-Error-Code": "GatedRepo"}
        headers["X-Error-Message"] = f"Access to model {name} is restricted. {reason}."
        send(request, 403 if known else 401, b"", False, headers)

    def describe(self, request: Any, folder: Path, body: bool) -> None:
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        siblings = [
            {"rfilename": p.relative_to(folder).as_posix(), "size": self.size(p)} for p in files
        ]
        content = {"id": "a/b", "sha": COMMIT, "siblings": siblings}
        send(request, 200, json.dumps(content).encode(), body, {}, "application/json")

    def resolve(self, request: Any, file: Path, body: bool) -> None:
        headers = {"X-Repo-Commit": COMMIT}
        if file.is_file():
            headers |= {"ETag": f'"{digest(file)}"', "X-Linked-Size": str(self.size(file))}
            send(request, 200, file.read_bytes(), body, headers)
        else:
            send(request, 404, b"", body, {**headers, "X-Error-Code": "EntryNotFound"})

    def size(self, file: Path) -> int:
        return self.claimed.get(file.name, file.stat().st_size)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def send(
    request: BaseHTTPRequestHandler,
    status: int,
    content: bytes,
    body: bool,
    headers: dict[str, str] | None = None,
    kind: str = "application/octet-stream",
) -> None:
    request.send_response(status)
    for name, value in {"Content-Type": kind, **(headers or {})}.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if body:
        request.wfile.write(content)
