"""An HTTP server that speaks chat completions, files and batches, with faults by script or chance.

with OpenAIServer() as server: ... base_url=server.url ...

It knows as much about products as the Gemini server does, and meets the same pairs.
"""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlsplit

from abo_vqa.data.pairs import REPLY_FORMAT
from abo_vqa.remote.control_image import grey_square
from tests.support.servers.gemini import Call, GeminiHandler, GeminiServer
from tests.support.servers.gemini_errors import quota_error
from tests.support.servers.gemini_responses import (
    all_pairs,
    image_in,
    product_in,
    requested_pairs,
    user_text,
    word_for,
)
from tests.support.servers.openai_batches import OpenAIBatches

MODELS = ("gpt-5-mini", "Qwen/Qwen2.5-VL-7B-Instruct")
IMAGE_TOKENS = 255
# Faults after which asking again gives the answer that a clean run gets.
TRANSIENT = (
    "minute", "minute_bare", "500", "503", "slow", "hang", "drop", "cut_body", "not_json", "torn",
    "prose", "fence", "too_few", "too_many", "multi_word", "no_choices", "empty_text", "thought",
    "provider", "provider_half_way", "tool_calls", "parts", "end_of_thought", "bad_choices",
    "bad_usage",
)  # fmt: skip


class OpenAIServer(GeminiServer):
    """The server and what it was asked; see `GeminiServer` for the settings.

    Attributes:
        refuses: parameters, or types of `response_format`, that this server doesn't know, and
            "system", a role.
        efforts: the values of `reasoning_effort` that its model takes; () takes any.
        wordings: how it says that it doesn't know one of `refuses`, or "reasoning_effort".
        ignores_schema: whether a schema is taken and forgotten: the model needs to be told.
        counts_nothing: whether answers lack `usage`.
        unknown_path: what this server hasn't, and `unknown_code` how it says so.
        answers_squares: whether a control question's grey square is answered whatever is planned,
            as where images are at fault.
        failing_downloads: how often a file with a job's failed requests can't be downloaded.
        batch_fault: how batch jobs end: "", "failed", "expired", "hangs", or "gone": completed, and
            the results have been deleted since.
        queue_lines: how many requests fit into unfinished batch jobs; None: any number.
        refuses_creation: whether a job that doesn't fit isn't created, instead of failing later.
        expired_share: which share of its requests, from the first, a job answers that expires.
    """

    generates = "chat/completions"

    def __init__(self, *args: Any, refuses: tuple[str, ...] = (), **options: Any) -> None:
        options.setdefault("kinds", TRANSIENT)
        super().__init__(*args, **options)
        self.url += "/v1"
        self.refuses = refuses
        self.efforts: tuple[str, ...] = ()
        self.wordings: dict[str, str] = {}
        self.ignores_schema = self.counts_nothing = self.answers_squares = False
        self.batch_fault = ""
        self.expired_share = 0.5
        self.queue_lines: int | None = None
        self.refuses_creation = False
        self.failing_downloads = 0
        self.unknown_path, self.unknown_code = "", 404

    def handler(self) -> type:
        return OpenAIHandler

    def without_usage(self, made: dict[str, Any]) -> dict[str, Any]:
        """A completion as a server sends it that may not count tokens."""
        return made | {"usage": None} if self.counts_nothing and "usage" in made else made


def openai_error(message: str, kind: str, code: str | None = None, param: str | None = None) -> Any:
    return {"error": {"message": message, "type": kind, "code": code, "param": param}}


def as_gemini(body: dict[str, Any]) -> dict[str, Any]:
    """A request in the shape that the responses' functions know."""
    system = [m["content"] for m in body["messages"] if m["role"] == "system"]
    content = body["messages"][-1]["content"]
    parts = [
        {"text": part["text"]}
        if part["type"] == "text"
        else {"inlineData": {"data": part["image_url"]["url"].partition(",")[2]}}
        for part in content
    ]
    return {
        "contents": [{"parts": parts}],
        "systemInstruction": {"parts": [{"text": text} for text in system]},
    }


def completion(
    body: dict[str, Any], text: Any, finish: str = "stop", **message: Any
) -> dict[str, Any]:
    """A completion with this text."""
    sent = IMAGE_TOKENS + sum(len(str(m["content"])) for m in body["messages"]) // 400
    written = len(str(text or "")) // 4 + 1
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish,
            }
        ],
        "usage": {
            "prompt_tokens": sent, "completion_tokens": written, "total_tokens": sent + written,
        },
    }  # fmt: skip


def half_way(made: dict[str, Any]) -> dict[str, Any]:
    """A completion whose provider failed after it had begun, as OpenRouter says it."""
    made["choices"][0]["error"] = {"code": 502, "message": "Upstream error"}
    return made


def answer(fault: str, body: dict[str, Any]) -> dict[str, Any]:
    """A 200 whose content has the fault; without one, a good answer."""
    request = as_gemini(body)
    pairs = requested_pairs(request)
    kind = (body.get("response_format") or {}).get("type")
    text = json.dumps({"items": pairs} if kind == "json_schema" else pairs)
    text = word_for(request) or text
    everything = all_pairs(product_in(request))
    call = {"id": "call_1", "type": "function", "function": {"name": "ask", "arguments": "{}"}}
    thinking = {"prompt_tokens": 300, "completion_tokens": 0, "total_tokens": 1324}
    made: dict[str, Any] = {
        "torn": lambda: completion(body, text[: int(len(text) * 0.6)], "length"),
        "prose": lambda: completion(body, f"Sure! Here they are:\n{text}\nAnything else?"),
        "fence": lambda: completion(body, f"```json\n{text}\n```"),
        "thought": lambda: completion(body, f"<think>What can [be] {{asked}}?</think>\n{text}"),
        "sentence": lambda: completion(
            body, f"The image shows a thing.\nThe answer is **{text}**."
        ),
        "marked": lambda: completion(body, f"◁think▷Hm.◁/think▷<answer>{text}</answer>"),
        "thoughts": lambda: completion(body, None, "length") | {"usage": thinking},
        "too_few": lambda: completion(body, json.dumps(pairs[:-1])),
        "one_pair": lambda: completion(body, json.dumps(everything[:1])[:-1], "length"),
        "too_many": lambda: completion(
            body,
            json.dumps([*pairs, *(p for p in everything if p not in pairs)]),
        ),
        "multi_word": lambda: completion(
            body, json.dumps([*pairs[:-1], pairs[-1] | {"answer": "rather hard to say"}])
        ),
        "refused": lambda: completion(body, None, refusal="I can't help with that."),
        "filtered": lambda: completion(body, "", "content_filter"),
        "tool_calls": lambda: completion(body, None, "tool_calls", tool_calls=[call]),
        "empty_text": lambda: completion(body, ""),
        "no_choices": lambda: completion(body, text) | {"choices": []},
        "parts": lambda: completion(body, [{"type": "text", "text": text}]),
        "end_of_thought": lambda: completion(body, f"What {{can}} [be] asked?</think>\n{text}"),
        "bad_choices": lambda: completion(body, text) | {"choices": [text]},
        "bad_usage": lambda: completion(body, text) | {"usage": "unknown"},
        "provider_half_way": lambda: half_way(completion(body, "", "error")),
        "no_usage": lambda: completion(body, text) | {"usage": None},
        "provider": lambda: {"error": {"code": 502, "message": "Provider returned error"}},
    }
    return dict(made[fault]() if fault in made else completion(body, text))


def http_fault(fault: str, delay: float) -> tuple[int, Any, dict[str, str]] | None:
    """Faults that are one HTTP answer, whatever was asked."""
    again = {"retry-after": str(max(1, round(delay))), "retry-after-ms": str(round(delay * 1000))}
    requests = "requests per min (RPM): Limit 500, Used 500, Requested 1."
    daily = "requests per day (RPD): Limit 200, Used 200, Requested 1."
    limit = "Rate limit reached for gpt-5-mini in organization org-1 on "
    google = quota_error("day", None, details=True)
    return {
        "minute": (429, openai_error(limit + requests, "requests", "rate_limit_exceeded"), again),
        "minute_bare": (429, openai_error("Too many requests", "requests"), {}),
        "minute_words": (429, openai_error(
            f"{limit}{requests} Please try again in {round(delay * 1000)}ms.", "requests"), {}),
        "day": (429, openai_error(limit + daily, "requests", "rate_limit_exceeded"), {}),
        "day_words": (429, openai_error(
            f"{limit}{daily} Please try again in 7m12s.", "requests"), {}),
        "google_day": (429, [google], {}),
        "insufficient_quota": (429, openai_error(
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota", "insufficient_quota"), {}),
        "500": (500, openai_error("The server had an error.", "server_error"), {}),
        "503": (503, openai_error("The engine is overloaded.", "server_error"), {}),
        "503_tomorrow": (503, openai_error("Maintenance.", "server_error"),
                         {"retry-after": "86400"}),
        "503_later": (503, openai_error("Maintenance.", "server_error"),
                      {"retry-after": str(round(delay))}),
        "no_quota": (429, openai_error(
            f"{limit}requests per min (RPM): Limit 0, Used 0, Requested 1.", "requests",
            "rate_limit_exceeded"), {}),
        "too_large": (429, openai_error(
            "Request too large for gpt-5-mini in organization org-1 on tokens per min (TPM): "
            "Limit 300, Requested 1324. The input or output tokens must be reduced in order to run "
            "successfully.", "tokens", "rate_limit_exceeded"), {}),
        "text_error": (200, {"error": "Model is loading, try again."}, {}),
        "no_endpoint": (200, {"error": "Unexpected endpoint or method. (POST /chat/completions). "
                              "Returning 200 anyway"}, {}),
        "400": (400, openai_error("You uploaded an unsupported image.", "invalid_request_error",
                                  "invalid_image_format"), {}),
        "flagged": (403, openai_error("Your input was flagged by moderation.", "moderation"), {}),
        "region": (403, openai_error("Country, region, or territory not supported",
                                     "request_forbidden"), {}),
        "402": (402, openai_error("Insufficient credits.", "payment"), {}),
        "not_json": (200, b"<html>proxy error</html>", {}),
    }.get(fault)  # fmt: skip


class OpenAIHandler(OpenAIBatches, GeminiHandler):
    """Handles chat completions; files and batches are in `OpenAIBatches`."""

    owner: OpenAIServer

    @property
    def key(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.owner.note(Call(time.time(), "GET", path, self.key))
        if self.owner.keys is not None and self.key not in self.owner.keys:
            self.send(401, openai_error("Incorrect API key.", "invalid_request_error"))
        elif path == "/v1/models":
            self.send(
                200, {"object": "list", "data": [{"id": m, "object": "model"} for m in MODELS]}
            )
        else:
            self.get_batches(path)

    def do_POST(self) -> None:
        path, raw = urlsplit(self.path).path, self.body()
        call = Call(time.time(), "POST", path, self.key)
        if path != "/v1/chat/completions":
            self.owner.note(call)
            self.post_batches(path, raw)
            return
        body = json.loads(raw)
        request = as_gemini(body)
        # What `plan` knows it by; a question to a baseline is about no product.
        question = user_text(request).rpartition("\n")[2]
        call.product = product_in(request).get("name", "").partition(",")[0] or question
        spared = self.owner.answers_squares and image_in(request) == grey_square()
        call.fault = "" if spared else self.owner.fault_for(call.product)
        call.body = body if self.owner.keep_bodies else {}
        self.owner.note(call)
        if self.owner.keys is not None and self.key not in self.owner.keys:
            text = f"Incorrect API key provided: {self.key}."
            self.send(401, openai_error(text, "invalid_request_error", "invalid_api_key"))
        elif body["model"] not in MODELS:
            text = f"The model `{body['model']}` does not exist or you do not have access to it."
            self.send(404, openai_error(text, "invalid_request_error", "model_not_found"))
        elif refused := self.refused(body):
            self.send(*refused)
        else:
            self.complete(call, body)

    def refused(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        """The answer to a request with a parameter that this server doesn't know."""
        kind = (body.get("response_format") or {}).get("type", "")
        has_system = any(message["role"] == "system" for message in body["messages"])
        given, efforts = body.get("reasoning_effort"), self.owner.efforts
        if given and efforts and given not in efforts:
            return 400, openai_error(
                self.owner.wordings["reasoning_effort"], "invalid_request_error"
            )
        for name in self.owner.refuses:
            if name in body or (kind and name == kind) or (name == "system" and has_system):
                if name in self.owner.wordings:
                    return 400, openai_error(self.owner.wordings[name], "invalid_request_error")
                parameter = "response_format" if name == kind else name
                text = f"Unsupported parameter: '{name}' is not supported with this model."
                return 400, openai_error(
                    text, "invalid_request_error", "unsupported_parameter", parameter
                )
        return None

    def complete(self, call: Call, body: dict[str, Any]) -> None:
        owner, fault = self.owner, call.fault
        time.sleep(owner.latency)
        if owner.over_quota():
            call.fault = "over_quota"
            text = "Rate limit reached on requests per min (RPM). Please try again in 1s."
            self.send(429, openai_error(text, "requests", "rate_limit_exceeded"))
        elif self.connection_fault(fault, lambda: answer("", body)):
            pass
        elif found := http_fault(fault, owner.delay):
            self.send(*found)
        else:
            told = not owner.ignores_schema or REPLY_FORMAT in str(body["messages"])
            made = answer(fault, body) if told else completion(body, '{"color": "red"}')
            self.send(200, owner.without_usage(made))
