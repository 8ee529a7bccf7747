"""What requests that are left will take: whom they go to, money and time, in lines for people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError
from abo_vqa.remote.budget import describe_cost, price_usd, total_cost, total_usage
from abo_vqa.remote.contract import Usage
from abo_vqa.remote.keys import api_keys, key_variables
from abo_vqa.remote.quotas import reserved_output

if TYPE_CHECKING:
    from abo_vqa.core.service_config import ServiceConfig
    from abo_vqa.remote.journal import JournalEntry

_VENDORS = {"gemini": "Google", "gemini-legacy": "Google", "openai": "OpenAI"}
_PAUSE_S = 120.0  # without a reply: the run stood still, or was another one
_MIN_REPLIES = 20  # before their pace says anything


def service_lines(settings: ServiceConfig) -> list[str]:
    """Return whom requests go to, and what is wrong with the key, if anything.

    Args:
        settings: the service.
    """
    address = settings.base_url or _VENDORS[settings.protocol]
    lines = [f"model              {settings.model} at {address} (protocol {settings.protocol})"]
    try:
        api_keys(settings)
    except UserError as error:
        lines.append(f"key                warning: {error}")
    return lines


def price_lines(
    settings: ServiceConfig,
    prefix: str,
    total: Usage,
    entries: Sequence[JournalEntry],
    share: float = 1.0,
) -> list[str]:
    """Return what requests cost, and what was spent before.

    Args:
        settings: the prices and the budget.
        prefix: what the names of the settings begin with: "generate.", or "models.<name>.".
        total: tokens of all requests that are left.
        entries: replies so far.
        share: share of the list price; the batch mode's is about 0.5.
    """
    prices = settings.prices
    if not prices:
        spent = total_usage(entries)
        return [
            f"price              unknown: set {prefix}price_input and {prefix}price_output, USD "
            "per million tokens (0 for a server of your own)",
            f"spent so far       {spent.input:,} tokens in, {spent.output:,} out; price unknown",
        ]
    batch = "" if share == 1 else f", {share:g} of that in batch mode"
    lines = [
        f"price              {price_usd(total, settings, share):.2f} USD, at {prices.input:g} USD "
        f"per million tokens in and {prices.output:g} out{batch}",
        f"spent so far       {describe_cost(total_cost(entries, settings), settings)}",
    ]
    if settings.budget_usd is not None:
        lines.append(f"budget             {settings.budget_usd:g} USD")
    return lines


def duration_lines(
    settings: ServiceConfig,
    prefix: str,
    requests: int,
    total: Usage,
    entries: Sequence[JournalEntry],
) -> list[str]:
    """Return how long requests take: by the quotas, and at the pace so far.

    Args:
        settings: the quotas.
        prefix: see `price_lines`.
        requests: how many are left.
        total: their tokens.
        entries: replies so far, which tell the service's own pace.
    """
    pace = replies_per_minute(entries)
    at_pace = ""
    if pace:
        at_pace = (
            f"{requests / pace / 60:.2f} hours at the pace so far ({pace:.1f} replies a minute)"
        )
    keys = _number_of_keys(settings)
    tokens = total.input + requests * reserved_output(settings)
    minutes = max(requests / settings.requests_per_minute, tokens / settings.tokens_per_minute)
    days = -(-requests // (max(1, keys) * settings.requests_per_day))
    if keys:
        lines = [
            f"time               {minutes / keys / 60:.2f} hours at the quota of {keys} key(s)"
        ]
        lines += [f"                   {at_pace}"] if at_pace else []
    else:
        limits = (
            f"requests_per_minute {settings.requests_per_minute:,} and tokens_per_minute "
            f"{settings.tokens_per_minute:,} allow {minutes / 60:.2f} hours"
        )
        at_pace = at_pace or "the server's own pace isn't known before the first replies"
        lines = [f"time               {at_pace}", f"                   {limits}"]
    if days > 1:
        lines.append(f"                   over {days:,} days because of the daily quota")
    if keys > 1:  # Google counts per project, OpenAI per organisation and project
        lines.append(
            "                   if each key has a quota of its own: keys of one project or "
            f"organisation share one ({prefix}keys_share_quota: true)"
        )
    return lines


def replies_per_minute(entries: Sequence[JournalEntry]) -> float | None:
    """Return the pace of replies, without the pauses between runs; None: too few so far.

    Args:
        entries: replies; those of batch jobs don't count.
    """
    times = sorted(entry.time for entry in entries if entry.usage.output and not entry.job)
    gaps = [after - before for before, after in pairwise(times) if after - before < _PAUSE_S]
    busy = sum(gaps)
    return 60 * len(gaps) / busy if len(gaps) >= _MIN_REPLIES and busy else None


def _number_of_keys(settings: ServiceConfig) -> int:
    """Return how many keys have a quota; 0 where none is sent: there is no vendor's quota."""
    if not key_variables(settings):
        return 0
    try:
        return 1 if settings.keys_share_quota else len(api_keys(settings))
    except UserError:
        return 1
