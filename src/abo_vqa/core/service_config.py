"""Settings of models behind an API: how they decode, their quotas, prices and limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from abo_vqa.core.config_base import BaseConfig, Count, secret_in_setting

Protocol = Literal["gemini", "gemini-legacy", "openai"]
"""A vendor's protocol; `abo_vqa.remote.clients` has their implementations."""
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
Thinking = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How much a model thinks before it answers. No model knows all of them."""


def _check_address(value: str) -> str:
    """Check that an address is one of HTTP, without a login: settings are written down."""
    parts = urlsplit(value)
    if "@" in parts.netloc or "@" in value.partition("://")[0]:
        raise secret_in_setting(
            "the address has a login (user:password@), which would be written into journals and "
            "records of runs: leave it out. For a key, key_variable names a variable of the "
            "environment"
        )
    strange = re.search(r"\s", value)
    if parts.scheme not in ("http", "https") or not parts.hostname or strange:
        raise ValueError("it should be an address such as http://localhost:8000/v1")
    return value


def _check_variable(value: str) -> str:
    """Check that it is a variable's name; with a dash, say, it is more probably the key itself."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise secret_in_setting(
            "it should be the name of a variable of the environment (letters, digits and _), "
            "not the key itself"
        )
    return value


_Address = Annotated[str, AfterValidator(_check_address)]
_VariableName = Annotated[str, AfterValidator(_check_variable)]
_Price = Annotated[float, Field(ge=0)]  # USD per million tokens


class Prices(NamedTuple):
    """What a model's tokens cost, in USD per million.

    Attributes:
        input: of the prompt and the image.
        output: of the reply and the reasoning.
    """

    input: float
    output: float


# Google's list prices of the model that params.yaml names, by Google's own protocols. Everything
# else is priced by whoever serves it.
_LIST_PRICES = {"gemini-3.5-flash-lite": Prices(0.10, 0.40)}


class ServiceConfig(BaseConfig):
    """A model behind an API, whatever it is asked for.

    The clients, the ledger and the budget depend on nothing else.
    """

    model: str  # as the service names it
    base_url: _Address | None
    key_variable: _VariableName | None = None
    keys_share_quota: bool = False
    temperature: Annotated[float, Field(ge=0, le=2)]  # 0: always the likeliest token
    max_output_tokens: Annotated[int, Field(ge=1)]  # of a reply, its reasoning included
    thinking: Thinking | None
    safety: Literal["BLOCK_NONE", "BLOCK_ONLY_HIGH", "BLOCK_MEDIUM_AND_ABOVE", "default"]
    image_size: Annotated[int, Field(ge=32, le=4096)]
    requests_per_minute: Count  # the vendor's quota
    tokens_per_minute: Count  # the vendor's quota
    requests_per_day: Count  # the vendor's quota
    concurrency: Annotated[int, Field(ge=1, le=100)]  # the SDKs' pools have 100 connections
    attempts: Count
    timeout_s: Annotated[float, Field(gt=0)]
    patience_s: Annotated[float, Field(gt=0)]
    budget_usd: Annotated[float, Field(gt=0)] | None
    price_input: _Price | None
    price_output: _Price | None

    @property
    def prices(self) -> Prices | None:
        """What tokens cost; None if it isn't known.

        The settings' prices, or the list's for the default model where a setting is null.
        """
        own, output = self.price_input, self.price_output
        if self._is_behind_api and self.protocol != "openai" and self.model in _LIST_PRICES:
            listed = _LIST_PRICES[self.model]
            own = listed.input if own is None else own
            output = listed.output if output is None else output
        return None if own is None or output is None else Prices(own, output)

    @property
    def protocol(self) -> Protocol:
        """How the service is spoken to.

        Raises:
            NotImplementedError: a subclass doesn't say.
        """
        raise NotImplementedError

    @property
    def _is_behind_api(self) -> bool:
        return True

    @model_validator(mode="after")
    def _thinks_as_its_protocol_can_say(self) -> ServiceConfig:
        if self.thinking == "max" and self._is_behind_api and self.protocol == "gemini":
            raise ValueError("thinking: the protocol gemini has no level max; its highest is xhigh")
        return self

    @model_validator(mode="after")
    def _priced(self) -> ServiceConfig:
        if not self._is_behind_api:
            return self
        prices = self.prices
        if not prices and (self.price_input, self.price_output) != (None, None):
            raise ValueError(
                "price_input and price_output (USD per million tokens) belong together: set both, "
                "or neither if you don't know them"
            )
        if self.budget_usd is not None and not any(prices or ()):
            problem = (
                "with prices of 0 it would stop nothing"
                if prices
                else f"the price of {self.model} isn't known here"
            )
            raise ValueError(
                f"budget_usd needs price_input and price_output (USD per million tokens): {problem}"
            )
        return self


_ENDPOINT_DEFAULTS: dict[str, Any] = {
    "base_url": None,
    "temperature": 0.0,
    "max_output_tokens": 1024,  # far more than a word needs, unless the model thinks
    "thinking": None,
    "safety": "BLOCK_ONLY_HIGH",
    "image_size": 256,
    "requests_per_minute": 1000,
    "tokens_per_minute": 1_000_000,
    "requests_per_day": 100_000,
    "concurrency": 16,
    "attempts": 5,
    "timeout_s": 60,
    "patience_s": 600,
    "budget_usd": None,
    "price_input": None,
    "price_output": None,
}


class EndpointConfig(ServiceConfig):
    """A model behind an API as a baseline: `models.<name>` of the family `endpoint`.

    All but the protocol and the model have defaults, which are no defaults of `generate`: its
    settings are all in `params.yaml`.
    """

    # How the service is spoken to.
    service: Literal["gemini", "openai"] = Field(alias="protocol")

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, data: Any) -> Any:
        return {**_ENDPOINT_DEFAULTS, **data} if isinstance(data, dict) else data

    @property
    def protocol(self) -> Protocol:
        """How the service is spoken to."""
        return self.service

    def answer_settings(self) -> dict[str, Any]:
        """Return the settings that an answer depends on, not quotas, prices and patience.

        Nor the address: the same model behind another one goes on where it was, as in `generate`.
        """
        names = ["model", "temperature", "max_output_tokens", "thinking", "image_size"]
        if self.protocol != "openai":  # which has no such parameter
            names.append("safety")
        return {"protocol": self.protocol, **{name: getattr(self, name) for name in names}}


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

    @property
    def _is_behind_api(self) -> bool:
        return self.annotator in PROTOCOLS
