"""Why a run stops, and what the user can do about it. Everything answered so far is saved."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.remote.errors import AccountError, InvalidKeyError, NoQuotaError, ServiceError
from abo_vqa.remote.keys import NO_KEY, is_foreign, key_variables, rejected_key_advice

if TYPE_CHECKING:
    from abo_vqa.core.service_config import ServiceConfig


@dataclass(frozen=True)
class StopReasons:
    """The errors that end a run, in terms of the settings that the user can change.

    Attributes:
        settings: the service.
        prefix: what the names of its settings begin with: "generate.", or "".
        place: where they are: "in params.yaml".
        label: what messages begin with, where several services may be asked; or "".
    """

    settings: ServiceConfig
    prefix: str
    place: str
    label: str = ""

    def unknown_model(self, error: ServiceError) -> UserError:
        """Return the error for a model that the service doesn't have, or an address without one."""
        if self.settings.base_url and not names_model(str(error), self.settings.model):
            return self._wrong_address(error)
        current = "one that its server lists (GET /v1/models)"
        if self.settings.protocol != "openai":
            current = "a current one, e.g. gemini-3.5-flash-lite"
        return UserError(
            f"{self.prefix}model: {self.settings.model!r} doesn't exist or is retired. Set it "
            f"{self.place} to {current}.{address_advice(self.settings, self.prefix)} ({error})"
        )

    def refused_thinking(self, error: ServiceError, progress: str) -> UserError:
        """Return the error for a value of `thinking` that the model doesn't take.

        Args:
            error: the service's, with the values that it takes.
            progress: how far the run is, as a clause.
        """
        return UserError(
            f"{self.label}{self.settings.model!r} doesn't take {self.prefix}thinking: "
            f"{self.settings.thinking}. Set it {self.place} to a value that the service names, or "
            f"to null, the model's default. The service says: {error}. {_sentence(progress)}: run "
            "it again to continue."
        )

    def _wrong_address(self, error: ServiceError) -> UserError:
        """Return the error for an address where something else answers."""
        address = self.settings.base_url
        other = suggested_address(self.settings)
        advice = f"Correct it {self.place}"
        if other:
            advice = f"Set it {self.place} to {other}: for most servers it ends in /v1"
        return UserError(
            f"{self.label}{self.prefix}base_url: the server at {address} has nothing under the "
            f"address that requests go to: {error}. {advice}. If the address is right, "
            f"check {self.prefix}model ({self.settings.model!r})."
        )

    def no_answer(self, error: ServiceError, progress: str) -> RetryLaterError:
        """Return the error for an outage.

        Args:
            error: the last one.
            progress: how far the run is, as a clause.
        """
        return RetryLaterError(
            f"{self.label}no answer for {self.settings.patience_s:g} s; last error: {error}. "
            f"{_sentence(progress)}: run it again later."
        )

    def no_answer_before(self, until: float, error: ServiceError, progress: str) -> RetryLaterError:
        """Return the error for a service that asks to wait for longer than patience allows.

        Args:
            until: when it may be asked again, in Unix seconds.
            error: the last one.
            progress: how far the run is, as a clause.
        """
        return RetryLaterError(
            f"{self.label}the service asks to wait until {_local_time(until)}, which is longer "
            f"than {self.prefix}patience_s ({self.settings.patience_s:g}); last error: {error}. "
            f"{_sentence(progress)}: run it again after that time."
        )

    def no_connection(self, error: ServiceError, progress: str) -> RetryLaterError:
        """Return the error for a server that isn't there.

        Args:
            error: the last one.
            progress: how far the run is, as a clause.
        """
        advice = "check the network"
        if self.settings.base_url:
            advice = f"start the server, or correct {self.prefix}base_url {self.place}"
        return RetryLaterError(
            f"{self.label}nothing answers: {error}. {_sentence(progress)}: {advice}, and run it "
            "again."
        )

    def no_usable_key(self, error: InvalidKeyError, progress: str) -> UserError:
        """Return the error for a run whose last key was rejected.

        Args:
            error: why it was rejected.
            progress: how far the run is, as a clause.
        """
        if isinstance(error, NoQuotaError):
            advice = (
                f"The key has no free quota for {self.prefix}model {self.settings.model!r}: it is "
                "0, today and any day. Choose a model of the key's plan, or change the plan."
            )
        elif isinstance(error, AccountError):
            advice = (
                "It is the account that is refused, whatever is asked: check its billing, region "
                "and state in the vendor's console."
            )
        else:
            advice = rejected_key_advice(self.settings, self.prefix)
            if not key_variables(self.settings):
                message = str(error).replace(NO_KEY, f"{NO_KEY} (sent in place of a key)")
                return UserError(
                    f"{self.label}the server at {self.settings.base_url} wants a key, and none was "
                    f"sent. {advice} {_sentence(progress)}: run it again to continue. The server's "
                    f"message: {message}"
                )
        return UserError(
            f"{self.label}no usable API key; the last one was rejected with: {error}. {advice} "
            f"{_sentence(progress)}: run it again to continue."
        )

    def daily_quota_spent(
        self, until: float, keys: int, message: str, progress: str
    ) -> RetryLaterError:
        """Return the error for spent daily quotas.

        Args:
            until: when the first key has quota again, in Unix seconds.
            keys: how many keys there are.
            message: the vendor's, or "".
            progress: how far the run is, as a clause.
        """
        quotas = "the key's daily quota is" if keys == 1 else "all keys' daily quotas are"
        return RetryLaterError(
            f"{self.label}{quotas} spent; {progress}. "
            f"Run it again after {_local_time(until)}."
            + (f" The service says: {message}" if message else "")
        )

    def budget_exhausted(self, limit: float, committed: float, progress: str) -> UserError:
        """Return the error for a budget that the next request might exceed.

        Args:
            limit: `budget_usd`.
            committed: USD spent or reserved.
            progress: how far the run is, as a clause.
        """
        return UserError(
            f"{self.label}{self.prefix}budget_usd: {limit:g} USD might be exceeded by the next "
            f"request; about {committed:.4f} are spent. {_sentence(progress)}: raise the budget "
            "and run again."
        )


def output_limit_advice(settings: ServiceConfig, prefix: str) -> str:
    """Return what to do about a model that writes nothing before its output limit, and the cost.

    Args:
        settings: the service.
        prefix: what the names of its settings begin with.
    """
    levels = "none or low" if is_foreign(settings) else "none, minimal or low"
    if settings.protocol != "openai":
        levels = "minimal or low"
    return (
        "A thinking model spends its output limit on its reasoning. Raise "
        f"{prefix}max_output_tokens ({settings.max_output_tokens}): then only what was cut off is "
        f"asked for again. Or set {prefix}thinking ({settings.thinking or 'null'}) to {levels}, "
        "whichever the model knows: then everything is asked for, and paid for, anew."
    )


def names_model(message: str, model: str) -> bool:
    """Return whether an error blames the model, not the address.

    Args:
        message: the server's, with its code.
        model: the name that was asked for. In the path of a request ("…:generateContent") it says
            nothing.
    """
    blamed = rf"model_not_found|DeploymentNotFound|{re.escape(model)}(?!:\w)"
    return bool(re.search(blamed, message, re.IGNORECASE))


def suggested_address(settings: ServiceConfig) -> str:
    """Return the address with /v1, where a server of chat completions is asked without; or "".

    Args:
        settings: the protocol and the address.
    """
    address = (settings.base_url or "").rstrip("/")
    if settings.protocol != "openai" or re.search(r"/v\d", urlsplit(address).path):
        return ""
    return address and f"{address}/v1"


def address_advice(settings: ServiceConfig, prefix: str) -> str:
    """Return a sentence about an address that may be the reason why something isn't found, or "".

    Args:
        settings: the service.
        prefix: what the names of its settings begin with.
    """
    if not settings.base_url:
        return ""
    end = "; for most servers it ends in /v1" if settings.protocol == "openai" else ""
    return f" Check {prefix}base_url, too: it is {settings.base_url}{end}."


def _local_time(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment).astimezone():%Y-%m-%d %H:%M %Z}"


def _sentence(clause: str) -> str:
    return clause[:1].upper() + clause[1:]
