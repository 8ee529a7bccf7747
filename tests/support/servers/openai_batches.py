"""Files and batch jobs of the OpenAI protocol."""

from __future__ import annotations

import json
import time
from typing import Any

QUEUE_FULL = (
    "Enqueued token limit reached for gpt-5-mini in organization org-x. Limit: 90,000 enqueued "
    "tokens. Please try again once some in_progress batches have been completed."
)


class OpenAIBatches:
    """What a handler answers to requests about files and batches."""

    owner: Any
    refused: Any  # of the handler that this is a part of

    def post_batches(self, path: str, raw: bytes) -> None:
        owner = self.owner
        if path == owner.unknown_path:
            self.send(owner.unknown_code, {"detail": "Not Found"})
        elif path == "/v1/files":
            name = f"file-{len(owner.files)}"
            owner.files[name] = uploaded(raw)
            self.send(200, file_object(name, len(owner.files[name])))
        elif path == "/v1/batches":
            body = json.loads(raw)
            name = f"batch_{len(owner.batches)}"
            job = {"polls": 0, "input": body["input_file_id"], "metadata": body.get("metadata")}
            job |= {"ended": "", "output": None, "error": None, "full": not self.fits(job)}
            if job["full"] and owner.refuses_creation:
                problem = {"message": QUEUE_FULL, "code": "token_limit_exceeded", "type": "batch"}
                self.send(429, {"error": problem})
                return
            owner.batches[name] = job
            self.send(200, batch_object(name, job, "validating"))
        elif path.endswith("/cancel"):
            name = path.split("/")[-2]
            self.end(owner.batches[name], "cancelled")
            self.send(200, batch_object(name, owner.batches[name], "cancelling"))
        else:
            self.send(404, {"error": {"message": f"no {path}", "type": "invalid_request_error"}})

    def get_batches(self, path: str) -> None:
        owner, name = self.owner, path.split("/")[3] if path.count("/") > 2 else ""
        if path == "/v1/batches":
            jobs = [batch_object(n, job, status(job)) for n, job in owner.batches.items()]
            self.send(200, {"object": "list", "data": jobs, "has_more": False})
        elif path.endswith("/content") and owner.failing_downloads and self.has_errors(name):
            owner.failing_downloads -= 1
            self.send(503, {"error": {"message": "overloaded", "type": "server_error"}})
        elif path.endswith("/content") and name in owner.files:
            self.send(200, owner.files[name])
        elif name in owner.batches:
            job = owner.batches[name]
            job["polls"] += 1
            if job["full"]:
                job["ended"] = "failed"
            if job["polls"] > owner.batch_polls and owner.batch_fault != "hangs":
                gone = owner.batch_fault == "gone"
                self.end(job, "completed" if gone else owner.batch_fault or "completed")
                if gone:
                    owner.files.pop(job["output"], None)
            self.send(200, batch_object(name, job, status(job)))
        else:
            self.send(404, {"error": {"message": f"no {path}", "type": "invalid_request_error"}})

    def fits(self, new: dict[str, Any]) -> bool:
        """Whether a job's requests fit into the queue, beside those of unfinished jobs."""
        if self.owner.queue_lines is None:
            return True
        jobs = [job for job in self.owner.batches.values() if not job["ended"] and not job["full"]]
        lines = [len(self.owner.files[job["input"]].splitlines()) for job in (*jobs, new)]
        return sum(lines) <= self.owner.queue_lines

    def has_errors(self, name: str) -> bool:
        """Whether a file holds the requests of a job that failed."""
        return name in {job["error"] for job in self.owner.batches.values()}

    def end(self, job: dict[str, Any], how: str) -> None:
        """End a job; one that expires has answered a part of its requests."""
        from tests.support.servers.openai_chat import (
            answer,
            as_gemini,
            http_fault,
            openai_error,
            product_in,
        )

        if job["ended"]:
            return
        job["ended"] = how
        if how == "failed":
            return
        lines = [json.loads(line) for line in self.owner.files[job["input"]].splitlines()]
        share = 1.0 if how == "completed" else self.owner.expired_share
        asked = lines[: int(share * len(lines))]
        good, bad = [], []
        for line in asked:
            product = product_in(as_gemini(line["body"])).get("name", "").partition(",")[0]
            fault = self.owner.fault_for(product)
            code, body = self.refused(line["body"]) or (200, {})
            if code == 200:
                made = self.owner.without_usage(answer(fault, line["body"]))
                code, body, _ = http_fault(fault, 1.0) or (200, made, {})
            if not isinstance(body, (dict, list)):  # results are JSON: this is the vendor's error
                code, body = 502, openai_error("Bad gateway", "server_error")
            result = {"custom_id": line["custom_id"], "error": None}
            result["response"] = {"status_code": code, "body": body}
            (good if code == 200 else bad).append(result)
        unasked = {"code": "batch_expired", "message": "This request could not be executed."}
        for line in lines[len(asked) :]:
            bad.append({"custom_id": line["custom_id"], "response": None, "error": unasked})
        for kind, results in (("output", good), ("error", bad)):
            if results:
                name = f"file-{len(self.owner.files)}"
                self.owner.files[name] = self.owner.damage(results)
                job[kind] = name


def status(job: dict[str, Any]) -> str:
    return job["ended"] or "in_progress"


def uploaded(raw: bytes) -> bytes:
    """The file in a multipart form."""
    boundary = raw.split(b"\r\n", 1)[0]
    for part in raw.split(boundary):
        head, _, content = part.partition(b"\r\n\r\n")
        if b'name="file"' in head:
            return content.removesuffix(b"\r\n")
    raise ValueError("no file in the form")


def file_object(name: str, size: int) -> dict[str, Any]:
    return {
        "id": name, "object": "file", "bytes": size, "created_at": int(time.time()),
        "filename": "requests.jsonl", "purpose": "batch", "status": "processed",
    }  # fmt: skip


def batch_object(name: str, job: dict[str, Any], state: str) -> dict[str, Any]:
    problem = {"code": "invalid", "message": "The file is invalid."}
    if job["full"]:
        problem = {"code": "token_limit_exceeded", "message": QUEUE_FULL}
    failed = {"object": "list", "data": [problem]}
    return {
        "id": name, "object": "batch", "endpoint": "/v1/chat/completions",
        "input_file_id": job["input"], "completion_window": "24h", "status": state,
        "output_file_id": job["output"], "error_file_id": job["error"],
        "created_at": int(time.time()), "metadata": job["metadata"],
        "errors": failed if state == "failed" else None,
    }  # fmt: skip
