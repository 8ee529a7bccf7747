"""An HTTP server that speaks the Gemini REST protocol, with faults by script or by chance.

In a test:      with GeminiServer() as server: ... base_url=server.url ...
As a process:   python tests/servers/gemini.py --faults 0.2 --latency 0.8 --log requests.jsonl

Its answers depend on the product in the prompt alone, so that a run that meets faults ends with
the same pairs as one that doesn't.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import re
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MODELS = ("gemini-3.5-flash-lite", "gemini-3.5-flash")
PICTURE_TOKENS = 258
RPC = "type.googleapis.com/google.rpc."
# Faults after which asking again gives the answer that a clean run gets.
TRANSIENT = (
    "minute", "minute_bare", "500", "503", "slow", "hang", "drop", "cut_body", "not_json", "torn",
    "prose", "fence", "too_few", "too_many", "multi_word", "empty", "safety",
)  # fmt: skip


def product_of(body: dict[str, Any]) -> dict[str, str]:
    """The catalogue data in a request: the first JSON object among its text lines."""
    for line in user_text(body).splitlines():
        if line.startswith("{"):
            return dict(json.loads(line))
    return {}


def user_text(body: dict[str, Any]) -> str:
    parts = body["contents"][-1]["parts"]
    return "\n".join(part["text"] for part in parts if "text" in part)


def system_text(body: dict[str, Any]) -> str:
    instruction = body.get("systemInstruction") or body.get("system_instruction") or {}
    return "\n".join(part.get("text", "") for part in instruction.get("parts", []))


def pairs_for(product: dict[str, str]) -> list[dict[str, str]]:
    """All that the model knows about a product, always in the same order."""
    kind = product.get("product_type", "thing").split("_")[-1].lower()
    dice = random.Random(zlib.crc32(json.dumps(product, sort_keys=True).encode()))
    color = dice.choice(["red", "green", "blue", "white"])
    known = [
        (f"What color is the {kind}?", color),
        ("How many items are shown?", dice.choice(["one", "two", "three"])),
        (f"What is the {kind} made of?", dice.choice(["wood", "metal", "glass"])),
        (f"Is the {kind} striped?", dice.choice(["yes", "no"])),
        ("Where does the light come from?", dice.choice(["left", "right"])),
        (f"What shape does the {kind} have?", dice.choice(["round", "square"])),
        ("What pattern can be seen?", dice.choice(["plain", "dotted"])),
    ]
    return [{"question": question, "answer": answer} for question, answer in known]


def asked_for(body: dict[str, Any]) -> list[dict[str, str]]:
    """The pairs that an obedient model would give: so many, and none that exist already."""
    text = user_text(body)
    more = re.search(r"Write exactly (\d+) more", text)
    wanted = more or re.search(r"Write exactly (\d+) question", system_text(body))
    taken = json.loads(text.splitlines()[3]) if more else []
    fresh = [pair for pair in pairs_for(product_of(body)) if pair["question"] not in taken]
    return fresh[: int(wanted[1]) if wanted else 3]


def error(code: int, status: str, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


def quota_error(which: str, delay: float | None, *, details: bool) -> dict[str, Any]:
    """A 429 as Google words it; without details there is only the message."""
    message = "You exceeded your current quota, please check your plan and billing details."
    if not details:
        per = "PerDay" if which == "day" else "PerMinute"
        return error(429, "RESOURCE_EXHAUSTED", f"{message} (GenerateRequests{per}PerProject)")
    name = {"day": "Day", "minute": "Minute"}[which]
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
        "quotaId": f"GenerateRequestsPer{name}PerProjectPerModel",
        "quotaValue": "1000",
    }
    found: list[dict[str, Any]] = [{"@type": RPC + "QuotaFailure", "violations": [violation]}]
    if delay is not None:
        found.append({"@type": RPC + "RetryInfo", "retryDelay": f"{delay:g}s"})
    return error(429, "RESOURCE_EXHAUSTED", message, *found)


def several_quotas(delay: float) -> dict[str, Any]:
    """A 429 that lists the quotas of a day and of a minute; the text names the one exceeded."""
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    quotas = [
        {"quotaMetric": metric, "quotaId": f"GenerateRequestsPer{name}-FreeTier", "quotaValue": n}
        for name, n in (("Day", "250"), ("Minute", "10"))
    ]
    message = (
        "You exceeded your current quota, please check your plan and billing details.\n"
        f"* Quota exceeded for metric: {metric}, limit: 10, model: gemini-3.5-flash-lite\n"
        f"Please retry in {delay:g}s."
    )
    retry = {"@type": RPC + "RetryInfo", "retryDelay": f"{delay:g}s"}
    failure = {"@type": RPC + "QuotaFailure", "violations": quotas}
    return error(429, "RESOURCE_EXHAUSTED", message, failure, retry)


def no_quota() -> dict[str, Any]:
    """A 429 for a model that isn't in the key's plan. The violations tell no value."""
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    quotas = [
        {"quotaMetric": metric, "quotaId": f"GenerateRequestsPer{name}-FreeTier"}
        for name in ("Day", "Minute")
    ]
    message = (
        "You exceeded your current quota, please check your plan and billing details.\n"
        f"* Quota exceeded for metric: {metric}, limit: 0, model: gemini-3.5-flash-lite\n"
        "Please retry in 29.1s."
    )
    retry = {"@type": RPC + "RetryInfo", "retryDelay": "29s"}
    failure = {"@type": RPC + "QuotaFailure", "violations": quotas}
    return error(429, "RESOURCE_EXHAUSTED", message, failure, retry)


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
        latency: seconds an answer takes. rate: share of requests that meet a fault by chance.
        kinds: the faults to draw from. delay: what RetryInfo asks for, seconds.
        keys: valid API keys (None: all). quota: requests a minute, enforced with 429.
        batch_polls: how many polls a batch job takes to finish.
    """

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
        self.script: dict[str, deque[str]] = {}  # product name, "*" or "batch" → faults to come
        self.calls: list[Call] = []
        self.recent: deque[float] = deque()
        self.lock = threading.Lock()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.on_call: Callable[[Call], None] = lambda call: None
        server = self

        class Handler(GeminiHandler):
            owner = server

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def plan(self, product: str, *faults: str) -> None:
        """Let the next requests about a product ("*": any product) meet these faults in turn."""
        self.script[product] = deque(faults)

    def fault_for(self, product: str) -> str:
        with self.lock:
            for name in (product, "*"):
                if self.script.get(name):
                    return self.script[name].popleft()
            return self.dice.choice(self.kinds) if self.dice.random() < self.rate else ""

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
        """generateContent calls, all or those with a fault."""
        return [
            call
            for call in self.calls
            if "generateContent" in call.path and (not fault or call.fault == fault)
        ]

    def start(self) -> GeminiServer:
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()


class GeminiHandler(BaseHTTPRequestHandler):
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

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        call = Call(time.time(), "GET", path, self.headers.get("x-goog-api-key", ""))
        self.owner.note(call)
        if not self.key_is_good(call.key):
            return
        name = path.split("/v1beta/", 1)[1]
        if name == "batches":
            jobs = [self.operation(job) for job in self.owner.batches]
            self.send(200, {"operations": jobs})
        elif name in self.owner.batches:
            fault = self.owner.script.get("poll")
            if fault:
                self.send(*simple_fault(fault.popleft(), self.owner))
                return
            self.owner.batches[name]["polls"] += 1
            self.send(200, self.operation(name))
        elif name.endswith(":download"):
            self.send(200, self.owner.files[name.removesuffix(":download")])
        else:
            self.send(404, error(404, "NOT_FOUND", f"{name} is not found"))

    def do_POST(self) -> None:
        raw = self.body()
        path = urlsplit(self.path).path
        key = self.headers.get("x-goog-api-key", "")
        if path.startswith(("/upload/", "/sink/")):
            self.owner.note(Call(time.time(), "POST", path, key))
            self.upload(path, raw)
            return
        body = json.loads(raw)
        body = body.get("generateContentRequest", body)  # how the legacy SDK counts tokens
        model, _, method = path.rsplit("/", 1)[-1].partition(":")
        call = Call(time.time(), "POST", path, key)
        if method in ("generateContent", "countTokens"):
            call.product = product_of(body).get("name", "").partition(",")[0]
            call.fault = self.owner.fault_for(call.product) if method == "generateContent" else ""
        call.body = body if self.owner.keep_bodies else {}
        self.owner.note(call)
        if not self.key_is_good(key):
            return
        if model not in MODELS:
            text = f"models/{model} is not found for API version v1beta, or is not supported."
            self.send(404, error(404, "NOT_FOUND", text))
        elif method == "countTokens":
            self.send(200, {"totalTokens": tokens(body)})
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
        elif fault == "drop":
            self.close_connection = True
            self.connection.close()
        elif fault == "cut_body":
            data = json.dumps(answer(asked_for(body), body)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        elif fault in ("slow", "hang"):
            time.sleep(owner.slow if fault == "slow" else owner.hang)
            self.send(200, answer(asked_for(body), body))
        elif fault == "bad_key":
            reason = {"@type": RPC + "ErrorInfo", "reason": "API_KEY_INVALID"}
            text = f"API key not valid: {call.key}. Please pass a valid API key."
            self.send(400, error(400, "INVALID_ARGUMENT", text, reason))
        elif found := simple_fault(fault, owner):
            self.send(*found)
        else:
            self.send(200, odd_answer(fault, body))

    # Files and batches

    def upload(self, path: str, raw: bytes) -> None:
        """The resumable protocol: start, then chunks to the address given."""
        owner = self.owner
        if path.startswith("/upload/"):
            name = f"files/in{len(owner.files)}"
            owner.files[name] = b""
            self.send(200, {}, {"x-goog-upload-url": f"{owner.url}/sink/{name}",
                                "x-goog-upload-status": "active"})  # fmt: skip
            return
        name = path.removeprefix("/sink/")
        owner.files[name] += raw
        final = "finalize" in self.headers.get("X-Goog-Upload-Command", "")
        value = {"file": {"name": name, "sizeBytes": str(len(owner.files[name]))}}
        self.send(200, value, {"x-goog-upload-status": "final" if final else "active"})

    def create_batch(self, model: str, body: dict[str, Any]) -> None:
        owner = self.owner
        fault = owner.script["batch"].popleft() if owner.script.get("batch") else ""
        if found := simple_fault(fault, owner):
            self.send(*found)
            return
        name = f"batches/job{len(owner.batches)}"
        batch = body["batch"]
        owner.batches[name] = {
            "display": batch["displayName"],
            "input": batch["inputConfig"]["fileName"],
            "polls": 0,
            "fault": fault,
            "model": model,
        }
        if fault == "drop":  # created, but the client doesn't learn it
            self.close_connection = True
            self.connection.close()
            return
        self.send(200, self.operation(name))

    def operation(self, name: str) -> dict[str, Any]:
        job = self.owner.batches[name]
        state = "BATCH_STATE_RUNNING" if job["polls"] < self.owner.batch_polls else (
            "BATCH_STATE_FAILED" if job["fault"] == "job_fails" else "BATCH_STATE_SUCCEEDED"
        )  # fmt: skip
        found: dict[str, Any] = {
            "name": name,
            "metadata": {"displayName": job["display"], "state": state, "model": job["model"]},
        }
        if state == "BATCH_STATE_SUCCEEDED":
            found["metadata"]["output"] = {"responsesFile": self.run_batch(name)}
            found["done"] = True
        return found

    def run_batch(self, name: str) -> str:
        """Answer a job's requests, in another order than they were asked."""
        owner, out = self.owner, f"files/out-{name.rsplit('/', 1)[1]}"
        if out not in owner.files:
            lines = []
            for line in reversed(owner.files[owner.batches[name]["input"]].splitlines()):
                item = json.loads(line)
                product = product_of(item["request"]).get("name", "").partition(",")[0]
                fault = owner.fault_for(product)
                failed = simple_fault(fault, owner)
                if failed and isinstance(failed[1], dict):
                    lines.append({"key": item["key"], "error": failed[1]["error"]})
                else:
                    found = odd_answer(fault, item["request"])
                    lines.append({"key": item["key"], "response": found})
            owner.files[out] = "".join(json.dumps(line) + "\n" for line in lines).encode()
        return out


def simple_fault(fault: str, owner: GeminiServer) -> tuple[int, Any] | None:
    """Faults that are one HTTP answer, whatever was asked."""
    return {
        "minute": (429, quota_error("minute", owner.delay, details=True)),
        "minute_bare": (429, quota_error("minute", None, details=False)),
        "day": (429, quota_error("day", 29.0, details=True)),
        "day_bare": (429, quota_error("day", None, details=False)),
        "500": (500, error(500, "INTERNAL", "An internal error has occurred.")),
        "503": (503, error(503, "UNAVAILABLE", "The model is overloaded.")),
        "400": (400, error(400, "INVALID_ARGUMENT", "Unable to process input image.")),
        "400_tiny": (400, error(400, "INVALID_ARGUMENT", "The image is too small.")),
        "422": (422, error(422, "UNPROCESSABLE", "This request can't be processed.")),
        "region": (400, error(400, "FAILED_PRECONDITION",
                              "User location is not supported for the API use.")),
        "billing": (400, error(400, "FAILED_PRECONDITION",
                               "Gemini API free tier is not available in your country. Please "
                               "enable billing on your project in Google AI Studio.")),
        "402": (402, error(402, "", "Payment required.")),
        "denied": (403, error(403, "PERMISSION_DENIED",
                              "Your project has been denied access. Please contact support.")),
        "prepaid": (429, error(429, "RESOURCE_EXHAUSTED",
                               "Your prepayment credits are depleted. Please go to AI Studio.")),
        "no_quota": (429, no_quota()),
        "several": (429, several_quotas(owner.delay)),
        "tomorrow": (429, quota_error("minute", 40_000.0, details=True)),
        "not_json": (200, b"<html>proxy error</html>"),
    }.get(fault)  # fmt: skip


def tokens(body: dict[str, Any]) -> int:
    """Input tokens: four letters a token, and those of the picture."""
    parts = [part for content in body["contents"] for part in content["parts"]]
    text = system_text(body) + "".join(part.get("text", "") for part in parts)
    return len(text) // 4 + PICTURE_TOKENS * sum("text" not in part for part in parts)


def answer(
    pairs: Any, body: dict[str, Any], finish: str = "STOP", text: str | None = None
) -> dict[str, Any]:
    """A response with these pairs as JSON, or with this text."""
    text = json.dumps(pairs) if text is None else text
    used = tokens(body)
    return {
        "candidates": [
            {
                "content": {"parts": [{"text": text}], "role": "model"},
                "finishReason": finish,
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": used,
            "candidatesTokenCount": len(text) // 4,
            "totalTokenCount": used + len(text) // 4,
        },
        "modelVersion": "gemini-3.5-flash-lite-001",
    }


def odd_answer(fault: str, body: dict[str, Any]) -> dict[str, Any]:
    """A 200 whose content has the fault; without one, a good answer."""
    pairs = asked_for(body)
    text = json.dumps(pairs)
    usage = answer(pairs, body)["usageMetadata"]
    if fault == "torn":
        return answer(pairs, body, "MAX_TOKENS", text[: int(len(text) * 0.6)])
    if fault == "prose":
        return answer(pairs, body, text=f"Sure! Here are the questions:\n{text}\nAnything else?")
    if fault == "fence":
        return answer(pairs, body, text=f"```json\n{text}\n```")
    if fault == "too_few":
        return answer(pairs[:-1], body)
    if fault == "too_many":
        every = pairs_for(product_of(body))
        return answer([*pairs, *[pair for pair in every if pair not in pairs]], body)
    if fault == "multi_word":
        return answer([*pairs[:-1], {**pairs[-1], "answer": "rather hard to say"}], body)
    if fault == "blocked":
        return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage}
    if fault == "thoughts":  # the whole output budget went into them
        return {
            "candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}],
            "usageMetadata": {"promptTokenCount": tokens(body), "thoughtsTokenCount": 1021},
        }
    if fault == "recitation":
        return {"candidates": [{"finishReason": "RECITATION", "index": 0}], "usageMetadata": usage}
    if fault == "empty_text":
        return answer(pairs, body, text="")
    if fault == "refusal":
        return answer(pairs, body, text="I'm sorry, I can't help with that.")
    if fault == "commas":
        return answer(pairs, body, text=text.replace('"}', '",}').replace("}]", "},]"))
    if fault == "all_multi_word":
        return answer([pair | {"answer": "rather hard to say"} for pair in pairs], body)
    if fault == "safety":
        return {"candidates": [{"finishReason": "SAFETY", "index": 0}], "usageMetadata": usage}
    if fault == "empty":
        return {"usageMetadata": usage}
    return answer(pairs, body)


def picture_of(body: dict[str, Any]) -> bytes:
    """The picture in a request."""
    part = next(p for p in body["contents"][-1]["parts"] if "text" not in p)
    inline = part.get("inlineData") or part["inline_data"]
    return base64.b64decode(inline["data"].replace("-", "+").replace("_", "/"))  # either alphabet


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--quota", type=int)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    server = GeminiServer(
        args.port, args.latency, args.faults, quota=args.quota, log=args.log, keep_bodies=False
    )
    print(server.url, flush=True)
    server.http.serve_forever()


if __name__ == "__main__":
    main()
