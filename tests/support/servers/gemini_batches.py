"""Files and batch jobs of the Gemini REST protocol.

A job's fault (`plan("batch", …)`) is an HTTP answer to its creation, "drop" (it is created, but the
client doesn't learn it), or how it ends: "job_fails", "job_expires" (half of its requests are
answered), "job_stalls" (it runs until it is cancelled), "job_stuck" (even then), "job_is_new" (a
state that nobody knows, until it is cancelled), "job_vanishes".
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.servers.gemini_errors import error_response
from tests.support.servers.gemini_responses import faulty_response, product_in


class BatchHandler(BaseHTTPRequestHandler):
    owner: Any  # the GeminiServer

    def send(self, code: int, value: Any, headers: dict[str, str] | None = None) -> None:
        raise NotImplementedError

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
        if found := error_response(fault, owner.delay):
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

    def cancel_batch(self, path: str) -> None:
        name = path.split("/v1beta/", 1)[1].removesuffix(":cancel")
        self.owner.batches[name]["cancelled"] = True
        self.send(200, {})

    def operation(self, name: str) -> dict[str, Any]:
        job = self.owner.batches[name]
        state = self.batch_state(job)
        found: dict[str, Any] = {
            "name": name,
            "metadata": {"displayName": job["display"], "state": state, "model": job["model"]},
        }
        if state in ("BATCH_STATE_SUCCEEDED", "BATCH_STATE_EXPIRED"):
            found["metadata"]["output"] = {"responsesFile": self.run_batch(name)}
            found["done"] = True
        return found

    def batch_state(self, job: dict[str, Any]) -> str:
        fault = job["fault"]
        if fault == "job_stuck" or job["polls"] < self.owner.batch_polls:
            return "BATCH_STATE_RUNNING"
        if fault in ("job_stalls", "job_is_new"):
            running = "RUNNING" if fault == "job_stalls" else "HIBERNATING"
            return f"BATCH_STATE_{'CANCELLED' if job.get('cancelled') else running}"
        ends = {"job_fails": "FAILED", "job_expires": "EXPIRED"}
        return f"BATCH_STATE_{ends.get(fault, 'SUCCEEDED')}"

    def run_batch(self, name: str) -> str:
        """Answer a job's requests, in another order than they were asked."""
        owner, out = self.owner, f"files/out-{name.rsplit('/', 1)[1]}"
        if out not in owner.files:
            lines = []
            asked = owner.files[owner.batches[name]["input"]].splitlines()[::-1]
            if owner.batches[name]["fault"] == "job_expires":
                asked = asked[: len(asked) // 2]
            for line in asked:
                item = json.loads(line)
                product = product_in(item["request"]).get("name", "").partition(",")[0]
                fault = owner.fault_for(product)
                failed = error_response(fault, owner.delay)
                if failed and isinstance(failed[1], dict):
                    lines.append({"key": item["key"], "error": failed[1]["error"]})
                else:
                    found = faulty_response(fault, item["request"])
                    lines.append({"key": item["key"], "response": found})
            owner.files[out] = owner.damage(lines)
        return out
