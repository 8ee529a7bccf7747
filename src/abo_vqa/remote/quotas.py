"""What counts against a service's quotas, by its protocol and address.

Of a request's tokens, Google counts the input against the quota per minute. OpenAI counts the
output that a request may take, too, as soon as it arrives ("Limit 300, Requested 1324": 300 in the
prompt, and an output limit of 1,024), and gives nothing back that is known of when the reply is
shorter. Compatible servers with quotas follow OpenAI, or count input and output as they are, which
is less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from abo_vqa.remote.ledger import GOOGLE_ZONE, Quota

if TYPE_CHECKING:
    from abo_vqa.core.service_config import ServiceConfig


def _is_google(settings: ServiceConfig) -> bool:
    """Return whether quotas are Google's, also behind its compatible endpoint."""
    return settings.protocol != "openai" or "googleapis.com" in (settings.base_url or "")


def day_zone(settings: ServiceConfig) -> str:
    """Return the time zone whose midnight resets a service's daily quotas.

    All but Google count in UTC or over a rolling day.

    Args:
        settings: the service.
    """
    return GOOGLE_ZONE if _is_google(settings) else "UTC"


def service_quota(settings: ServiceConfig) -> Quota:
    """Return what one key of a service may send.

    Args:
        settings: the service.
    """
    return Quota(
        settings.requests_per_minute,
        settings.tokens_per_minute,
        settings.requests_per_day,
        day_zone(settings),
    )


def reserved_output(settings: ServiceConfig) -> int:
    """Return the tokens of output that a request takes of the quota per minute, whatever it writes.

    Args:
        settings: the service.
    """
    return 0 if _is_google(settings) else settings.max_output_tokens
