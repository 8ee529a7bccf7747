"""The tests' servers of the vendors' protocols, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abo_vqa.remote.contract import Request
from abo_vqa.remote.gemini import GeminiClient, request_parts
from abo_vqa.remote.openai_client import OpenAIClient

ROOT = Path(__file__).parents[2]
CLIENTS = {"gemini": GeminiClient, "openai": OpenAIClient}
MODELS = {"gemini": "gemini-3.5-flash-lite", "openai": "gpt-5-mini"}
PLENTY = {"requests_per_minute": 10**6, "tokens_per_minute": 10**9}  # a quota that never matters


@contextmanager
def server(
    protocol: str, latency: float, log: Path | None = None, *, faults: float = 0.0
) -> Iterator[str]:
    """Start the server; yield its address. A share of requests may fail with the status 500."""
    module = "tests.support.servers.process"
    command = [sys.executable, "-m", module, protocol, "--latency", str(latency)]
    command += ["--log", str(log)] if log else []
    command += ["--faults", str(faults), "--kinds", "500"] if faults else []
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def call_sdk(client: GeminiClient | OpenAIClient, request: Request) -> None:
    """Send a request by nothing but the SDK."""
    if isinstance(client, OpenAIClient):
        completion = client.sdk.chat.completions.create(**client.body(request))
        assert completion.choices[0].message.content
        return
    response = client.sdk.models.generate_content(
        model=client.model,
        contents=request_parts(request),
        config=client.request_config(request),
    )
    assert response.text
