"""An HTTP server that speaks the Gemini REST protocol, with faults by script or by chance.

with GeminiServer() as server: ... base_url=server.url ...

`process` runs it as a process of its own, for benchmarks.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.servers.gemini_batches import BatchHandler
from tests.support.servers.gemini_errors import RPC, error, error_response, quota_error
from tests.support.servers.gemini_responses import (
    count_tokens,
    faulty_response,
    product_in,
    requested_pairs,
    response,
)

MODELS = ("gemini-3.5-flash-lite", "gemini-3.5-flash")
# Faults after which asking again gives the answer that a clean run gets.
TRANSIENT = (
    "minute", "minute_bare", "500", "503", "slow", "hang", "drop", "cut_body", "not_json", "torn",
    "prose", "fence", "too_few", "too_many", "multi_word", "empty", "safety",
)  # fmt: skip


class _Server(ThreadingHTTPServer):
    # As many may connect at once as benchmarks have threads: beyond the library's 5, the system
    # drops connections.
    request_queue_size = 128


@dataclass
class Call:
    """A request that arrived."""

    time: float
    method: str
    path: str
    key: str
    product: str = ""
    fault: str = ""
    body: dict[str, Any] = field(default_factory=dict)


class GeminiServer:
    """The server and what it was asked.

    Args:
        port: 0 for any free one.
        latency: seconds until a response.
        rate: share of requests that meet a fault by chance.
        kinds: the faults to draw from.
        seed: for chance.
        delay: seconds that RetryInfo asks for.
        slow: seconds until a "slow" response.
        hang: seconds until a "hang" response.
        keys: valid API keys (None: all).
        quota: requests per minute, enforced with 429.
        log: a file for a line per request.
        keep_bodies: whether to remember what was sent.
        batch_polls: polls until a batch job ends.
    """

    generates = "generateContent"  # in the path of requests for pairs

    def __init__(
        self,
        port: int = 0,
        latency: float = 0.0,
        rate: float = 0.0,
        kinds: tuple[str, ...] = TRANSIENT,
        seed: int = 0,
        delay: float = 0.2,
        slow: float = 0.3,
        hang: float = 5.0,
        keys: set[str] | None = None,
        quota: int | None = None,
        log: Path | None = None,
        keep_bodies: bool = True,
        batch_polls: int = 1,
    ) -> None:
        self.latency, self.rate, self.kinds = latency, rate, kinds
        self.dice = random.Random(seed)
        self.delay, self.slow, self.hang = delay, slow, hang
        self.keys, self.quota, self.log, self.keep_bodies = keys, quota, log, keep_bodies
        self.batch_polls = batch_polls
        # Product name, "*", "batch" (creation), "poll" or "list" → faults to come.
        self.script: dict[str, deque[str]] = {}
        self.calls: list[Call] = []
        self.recent: deque[float] = deque()
        self.lock = threading.Lock()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.damaged: list[str] = []  # lines in place of the first results of the next job
        self.on_call: Callable[[Call], None] = lambda call: None
        server = self

        class Handler(self.handler()):  # type: ignore[misc]
            owner = server

        self.http = _Server(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def handler(self) -> type:
        """The class of the protocol's handlers."""
        return GeminiHandler

    def plan(self, product: str, *faults: str) -> None:
        """Let the next requests about a product ("*": any product) meet these faults in turn."""
        self.script[product] = deque(faults)

    def fault_for(self, product: str) -> str:
        with self.lock:
            for name in (product, "*"):
                if self.script.get(name):
                    return self.script[name].popleft()
            return self.dice.choice(self.kinds) if self.dice.random() < self.rate else ""

    def damage(self, results: list[Any]) -> bytes:
        """A job's results as a file, some of them damaged."""
        lines = [json.dumps(result) for result in results]
        lines[: len(self.damaged)] = self.damaged
        self.damaged = []
        return "".join(line + "\n" for line in lines).encode()

    def note(self, call: Call) -> None:
        with self.lock:
            self.calls.append(call)
            if self.log:
                line = json.dumps(
                    [call.time, call.method, call.path, call.key, call.product, call.fault]
                )
                with self.log.open("a") as handle:
                    handle.write(line + "\n")
        self.on_call(call)

    def over_quota(self) -> bool:
        if self.quota is None:
            return False
        with self.lock:
            now = time.monotonic()
            while self.recent and self.recent[0] <= now - 60:
                self.recent.popleft()
            self.recent.append(now)
            return len(self.recent) > self.quota

    def generated(self, fault: str = "") -> list[Call]:
        """Calls that ask for pairs, all or those with a fault."""
        return [
            call
            for call in self.calls
            if self.generates in call.path and (not fault or call.fault == fault)
        ]

    def start(self) -> GeminiServer:
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()


class GeminiHandler(BatchHandler):
    owner: GeminiServer
    protocol_version = "HTTP/1.1"
    # Headers and body are written apart: without this each answer waits 40 ms for an ACK.
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """A client that has given up isn't an error here."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def send(self, code: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(data)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def connection_fault(self, fault: str, good: Callable[[], Any]) -> bool:
        """Meet a fault of the connection, whatever the protocol; return whether it was one."""
        if fault == "drop":
            self.close_connection = True
            self.connection.close()
        elif fault == "cut_body":
            data = json.dumps(good()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        elif fault in ("slow", "hang"):
            time.sleep(self.owner.slow if fault == "slow" else self.owner.hang)
            self.send(200, good())
        else:
            return False
        return True

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        call = Call(time.time(), "GET", path, self.headers.get("x-goog-api-key", ""))
        self.owner.note(call)
        if not self.key_is_good(call.key):
            return
        name = path.split("/v1beta/", 1)[1]
        fault = self.owner.script.get("list" if name == "batches" else "poll")
        if fault and (name == "batches" or name in self.owner.batches):
            self.send(*error_response(fault.popleft(), self.owner.delay))
        elif name == "batches":
            batches = self.owner.batches.items()
            jobs = [self.operation(n) for n, job in batches if job["fault"] != "job_vanishes"]
            self.send(200, {"operations": jobs})
        elif self.owner.batches.get(name, {}).get("fault", "job_vanishes") != "job_vanishes":
            self.owner.batches[name]["polls"] += 1
            self.send(200, self.operation(name))
        elif name.removesuffix(":download") in self.owner.files:
            self.send(200, self.owner.files[name.removesuffix(":download")])
        elif name.startswith("files/"):
            text = f"You do not have permission to access the File {name} or it may not exist."
            self.send(403, error(403, "PERMISSION_DENIED", text))
        else:
            self.send(404, error(404, "NOT_FOUND", f"{name} is not found"))

    def do_POST(self) -> None:
        raw = self.body()
        path = urlsplit(self.path).path
        key = self.headers.get("x-goog-api-key", "")
        if path.endswith(":cancel"):
            self.owner.note(Call(time.time(), "POST", path, key))
            self.cancel_batch(path)
            return
        if path.startswith(("/upload/", "/sink/")):
            self.owner.note(Call(time.time(), "POST", path, key))
            self.upload(path, raw)
            return
        body = json.loads(raw)
        body = body.get("generateContentRequest", body)  # how the legacy SDK counts tokens
        model, _, method = path.rsplit("/", 1)[-1].partition(":")
        call = Call(time.time(), "POST", path, key)
        if method in ("generateContent", "countTokens"):
            call.product = product_in(body).get("name", "").partition(",")[0]
            call.fault = self.owner.fault_for(call.product) if method == "generateContent" else ""
        call.body = body if self.owner.keep_bodies else {}
        self.owner.note(call)
        if not self.key_is_good(key):
            return
        if model not in MODELS:
            text = f"models/{model} is not found for API version v1beta, or is not supported."
            self.send(404, error(404, "NOT_FOUND", text))
        elif method == "countTokens":
            self.send(200, {"totalTokens": count_tokens(body)})
        elif method == "generateContent":
            self.generate(call, body)
        elif method == "batchGenerateContent":
            self.create_batch(model, body)
        else:
            self.send(404, error(404, "NOT_FOUND", f"no method {method}"))

    def key_is_good(self, key: str) -> bool:
        if self.owner.keys is None or key in self.owner.keys:
            return True
        # Google's messages do quote keys.
        text = f"Permission denied: Consumer 'api_key:{key}' has been suspended."
        reason = {"@type": RPC + "ErrorInfo", "reason": "CONSUMER_SUSPENDED"}
        self.send(403, error(403, "PERMISSION_DENIED", text, reason))
        return False

    def generate(self, call: Call, body: dict[str, Any]) -> None:
        owner, fault = self.owner, call.fault
        time.sleep(owner.latency)
        if owner.over_quota():
            call.fault = "over_quota"
            self.send(429, quota_error("minute", 1.0, details=True))
        elif self.connection_fault(fault, lambda: response(requested_pairs(body), body)):
            pass
        elif fault == "bad_key":
            reason = {"@type": RPC + "ErrorInfo", "reason": "API_KEY_INVALID"}
            text = f"API key not valid: {call.key}. Please pass a valid API key."
            self.send(400, error(400, "INVALID_ARGUMENT", text, reason))
        elif found := error_response(fault, owner.delay):
            self.send(*found)
        else:
            self.send(200, faulty_response(fault, body))
