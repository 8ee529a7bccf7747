"""The protocols by their names in the configuration, and a client for each API key."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.remote.contract import BatchClient
from abo_vqa.remote.key_pool import ApiKey
from abo_vqa.remote.keys import api_keys, key_id
from abo_vqa.remote.openai_dialect import Dialect

if TYPE_CHECKING:
    from abo_vqa.core.service_config import ServiceConfig

# Protocol → module and class. A module, and its SDK with it, is imported when chosen.
_CLIENTS = {
    "gemini": ("abo_vqa.remote.gemini", "GeminiClient"),
    "gemini-legacy": ("abo_vqa.remote.gemini_legacy", "GeminiLegacyClient"),
    "openai": ("abo_vqa.remote.openai_client", "OpenAIClient"),
}
_BATCH_CLIENTS = {
    "gemini": ("abo_vqa.remote.gemini_batch", "GeminiBatchClient"),
    "openai": ("abo_vqa.remote.openai_batch", "OpenAIBatchClient"),
}


def _load(module: str, name: str) -> Any:  # the class of a client
    return getattr(importlib.import_module(module), name)


@contextmanager
def open_clients(settings: ServiceConfig) -> Iterator[list[ApiKey]]:
    """Open a client for each key in the environment, and close them at the end.

    Args:
        settings: the annotator (which protocol), the model, and the address.

    Raises:
        UserError: there is no key, or the protocol's package isn't installed.
    """
    secrets = api_keys(settings)
    client_class = _load(*_CLIENTS[settings.protocol])
    options: dict[str, Any] = {}
    if settings.protocol == "openai":  # what a server refuses of one key it refuses of all
        options["dialect"] = Dialect.of_server(settings.base_url)
    with ExitStack() as stack:
        keys, ids = [], [key_id(secret, settings) for secret in secrets]
        for number, (secret, name) in enumerate(zip(secrets, ids, strict=True), 1):
            client = client_class(secret, settings, secrets, **options)
            stack.callback(client.close)
            quota = min(ids) if settings.keys_share_quota else name
            keys.append(ApiKey(number, name, quota, client))
        yield keys


def batch_clients(settings: ServiceConfig, keys: Sequence[ApiKey]) -> dict[str, BatchClient]:
    """Return the client for batch jobs of each key, by the key's id.

    Args:
        settings: the annotator.
        keys: the keys with open clients.

    Raises:
        UserError: the protocol has no batch jobs.
    """
    if settings.protocol not in _BATCH_CLIENTS:
        raise UserError(f"generate.batch needs generate.annotator: {' or '.join(_BATCH_CLIENTS)}.")
    client_class = _load(*_BATCH_CLIENTS[settings.protocol])
    return {key.id: client_class(key.client) for key in keys}
