"""Settings of `abo-vqa serve`."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from abo_vqa.core.config_base import BaseConfig, Count

_Seconds = Annotated[float, Field(gt=0, le=3600)]


class ServeConfig(BaseConfig):
    """Limits of the server, and where it takes images from."""

    batch_size: Count = 32
    batch_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 5
    capacity: Count = 128
    timeout_s: _Seconds = 30
    upload_timeout_s: _Seconds = 20
    drain_s: Annotated[float, Field(ge=0, le=600)] = 0
    max_body_mb: Annotated[float, Field(gt=0, le=512)] = 12
    max_pixels: Annotated[int, Field(ge=1, le=64_000_000)] = 25_000_000
    max_questions: Count = 32
    max_question_chars: Count = 500
    workers: Count = 1
    devices: Count | Literal["auto"] = "auto"
    fetch_urls: bool = False
    fetch_timeout_s: _Seconds = 10
    fetch_networks: tuple[str, ...] = ()
    image_folder: Path | None = None

    @field_validator("fetch_networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"{network!r} is no network, such as 10.1.0.0/16") from error
        return networks
