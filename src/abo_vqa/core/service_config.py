"""Settings of models behind an API: how they decode, their quotas, prices and limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field

from abo_vqa.core.config_base import BaseConfig, Count

Protocol = Literal["gemini", "gemini-legacy", "openai"]
"""A vendor's protocol; `abo_vqa.remote.clients` has their implementations."""
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
_Price = Annotated[float, Field(ge=0)]  # USD per million tokens


class ServiceConfig(BaseConfig):
    """A model behind an API, whatever it is asked for.

    The clients, the ledger and the budget depend on nothing else.
    """

    model: str
    base_url: Annotated[str, Field(pattern=r"^https?://")] | None
    temperature: Annotated[float, Field(ge=0, le=2)]
    max_output_tokens: Annotated[int, Field(ge=1)]
    thinking: Literal["minimal", "low", "medium", "high"] | None
    safety: Literal["BLOCK_NONE", "BLOCK_ONLY_HIGH", "BLOCK_MEDIUM_AND_ABOVE", "default"]
    image_size: Annotated[int, Field(ge=32, le=4096)]
    requests_per_minute: Count
    tokens_per_minute: Count
    requests_per_day: Count
    concurrency: Annotated[int, Field(ge=1, le=100)]  # the SDKs' pools have 100 connections
    attempts: Count
    timeout_s: Annotated[float, Field(gt=0)]
    patience_s: Annotated[float, Field(gt=0)]
    budget_usd: Annotated[float, Field(gt=0)] | None
    price_input: _Price
    price_output: _Price

    @property
    def protocol(self) -> Protocol:
        """How the service is spoken to.

        Raises:
            NotImplementedError: a subclass doesn't say.
        """
        raise NotImplementedError


class GenerateConfig(ServiceConfig):
    """Who writes questions and answers, and the limits of a paid annotator."""

    annotator: Literal["offline", "local", "file", Protocol]
    questions: Count
    file: Path | None
    max_output_tokens: Annotated[int, Field(ge=64)]
    prompt: Path
    batch: bool
    batch_images: Count
    batch_price: Annotated[float, Field(gt=0, le=1)]
    batch_poll_s: Annotated[float, Field(gt=0)]
    batch_deadline_h: Annotated[float, Field(gt=0)]
    yes_share: Annotated[float, Field(ge=0, le=1)] | None
    allow_brands: bool
    review: Path | None

    @property
    def protocol(self) -> Protocol:
        """How the annotator's service is spoken to.

        Raises:
            ValueError: the annotator isn't behind an API.
        """
        if self.annotator == "offline" or self.annotator == "local" or self.annotator == "file":
            raise ValueError(f"{self.annotator} isn't behind an API")
        return self.annotator
