"""Why asking stops, and what the user can do about it. Every reply so far is saved."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.remote.errors import AccountError, NoQuotaError, ServiceError
from abo_vqa.remote.keys import key_variables

if TYPE_CHECKING:
    from abo_vqa.core.service_config import EndpointConfig

_SAVED = "Every reply is saved: run it again to continue."


class StopReasons:
    """The errors that end the asking of one service."""

    def __init__(self, settings: EndpointConfig) -> None:
        """Take over what messages name.

        Args:
            settings: the service.
        """
        self._settings, self._model = settings, settings.model

    def unknown_model(self, error: ServiceError) -> UserError:
        """Return the error for a model that the service doesn't have."""
        return UserError(
            f"the service has no model {self._model!r}: check model and base_url of this "
            f"endpoint under models in the profile. ({error})"
        )

    def no_usable_key(self, error: ServiceError) -> UserError:
        """Return the error for a run whose last key was rejected."""
        if isinstance(error, NoQuotaError):
            advice = f"The key has no free quota for {self._model}: it is 0, today and any day."
        elif isinstance(error, AccountError):
            advice = "It is the account that is refused: check its billing, region and state."
        else:
            one, several = key_variables(self._settings.protocol)
            advice = f"Check {one} or {several} in the environment."
        return UserError(f"{self._model}: no usable API key; the last error: {error}. {advice}")

    def daily_quota_spent(self, until: float, message: str) -> RetryLaterError:
        """Return the error for spent daily quotas.

        Args:
            until: when a key has quota again, in Unix seconds.
            message: the vendor's, or "".
        """
        back = datetime.fromtimestamp(until).astimezone()
        note = f" The service says: {message}" if message else ""
        return RetryLaterError(
            f"the daily quota is spent. Every reply is saved: run it again after "
            f"{back:%Y-%m-%d %H:%M %Z}.{note}"
        )

    def budget_exhausted(self, committed: float) -> UserError:
        """Return the error for a budget that the next request might exceed."""
        return UserError(
            f"{self._model}: the next request might exceed budget_usd: "
            f"{self._settings.budget_usd:g} USD; about {committed:.4f} are spent. "
            "Every reply is saved: raise it and run again."
        )

    def no_answer(self, error: ServiceError) -> RetryLaterError:
        """Return the error for an outage."""
        return RetryLaterError(
            f"{self._model}: no answer for {self._settings.patience_s:g} s; "
            f"last error: {error}. {_SAVED}"
        )

    def all_failed(self, count: int, kind: str) -> UserError:
        """Return the error for questions that fail alike.

        Args:
            count: how many in a row.
            kind: how the last one failed.
        """
        advice = "Check the endpoint's settings under models in the profile, and the account."
        if "MAX_TOKENS" in kind:
            advice = (
                "A thinking model spends max_output_tokens "
                f"({self._settings.max_output_tokens}) on its reasoning: raise it, or set thinking "
                f"({self._settings.thinking or 'null'}) to minimal or low where "
                "the model knows it. Replies under other settings are asked for anew."
            )
        return UserError(
            f"{self._model}: {count} questions in a row got no answer: {kind}. {advice} {_SAVED}"
        )
