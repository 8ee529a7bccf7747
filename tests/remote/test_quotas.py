"""What counts against quotas, by protocol and address."""

from __future__ import annotations

from pathlib import Path

import pytest

from abo_vqa.core.service_config import EndpointConfig
from abo_vqa.remote.contract import Usage
from abo_vqa.remote.key_pool import ApiKey, KeyPool, Reservation
from abo_vqa.remote.ledger import Ledger, QuotaDelay
from abo_vqa.remote.openai_client import OpenAIClient
from abo_vqa.remote.quotas import service_quota

GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai/"


def pool(folder: Path, protocol: str, base_url: str | None) -> KeyPool:
    settings = EndpointConfig(
        protocol=protocol, model="m", base_url=base_url, tokens_per_minute=2000
    )  # type: ignore[call-arg]
    client = OpenAIClient("sk-not-a-key", settings)  # sends nothing here
    ledger = Ledger(folder / "calls.sqlite")
    return KeyPool([ApiKey(1, "k", "k", client)], ledger, "j", settings)


@pytest.mark.parametrize(
    ("protocol", "base_url", "zone", "fit", "counted"),
    [
        ("gemini", None, "America/Los_Angeles", 6, 310),
        ("openai", GOOGLE, "America/Los_Angeles", 6, 310),
        ("openai", None, "UTC", 1, 310 + 1024),  # what a request may write counts, too
        ("openai", "https://api.example.com/v1", "UTC", 1, 310 + 1024),
    ],
)
def test_tokens_of_a_request(
    tmp_path: Path, protocol: str, base_url: str | None, zone: str, fit: int, counted: int
) -> None:
    keys = pool(tmp_path, protocol, base_url)
    assert service_quota(keys._settings).zone == zone
    granted = [keys.reserve(300, 0.0) for _ in range(fit + 1)]
    first = granted[0]
    assert isinstance(first, Reservation)
    assert isinstance(granted[-2], Reservation)
    assert isinstance(granted[-1], QuotaDelay)
    assert first.quota_tokens(Usage(310, 5)) == counted
    assert first.quota_tokens(Usage(counted=False)) is None
