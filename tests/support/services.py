"""Settings of a service, for tests of its clients that send nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def service_settings(**changes: Any) -> Any:
    """What a client reads of `ServiceConfig`."""
    settings = {
        "protocol": "openai", "model": "some-model", "base_url": "http://127.0.0.1:9/v1",
        "key_variable": None, "timeout_s": 1, "temperature": 0.0, "thinking": None,
        "safety": "default", "max_output_tokens": 10,
    }  # fmt: skip
    return SimpleNamespace(**settings | changes)
