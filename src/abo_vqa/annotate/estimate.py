"""What a paid run would take: requests, tokens, money and hours (`abo-vqa generate --dry-run`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from abo_vqa.annotate.journals import load_replies, replies_per_image
from abo_vqa.annotate.prompt import instruction
from abo_vqa.annotate.quality_filter import QualityFilter
from abo_vqa.annotate.tasks import Task, make_tasks
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.data.archive import Archive, open_archive
from abo_vqa.data.image_files import ImageError
from abo_vqa.data.pairs import Product
from abo_vqa.remote.budget import TokenEstimator
from abo_vqa.remote.clients import open_clients
from abo_vqa.remote.contract import Request, Usage
from abo_vqa.remote.errors import (
    InvalidKeyError,
    RequestRefusedError,
    ServiceError,
    UnknownModelError,
)
from abo_vqa.remote.estimates import duration_lines, price_lines, service_lines
from abo_vqa.remote.journal import JournalEntry

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

_OUTPUT_TOKENS = 30  # a pair as JSON, as long as there is no reply
_COUNTED_IMAGES = 5  # images whose tokens the vendor counts
_ESTIMATED_IMAGES = 1000  # images whose tokens are estimated


def estimate(
    config: Config, products: Sequence[Product], quality_filter: QualityFilter, *, count: bool
) -> str:
    """Return a table of what is still to be requested, and what it takes.

    Args:
        config: the run's configuration.
        products: the balanced table's rows, or a shard's.
        quality_filter: judges pairs.
        count: whether the vendor counts the tokens of a few images.
    """
    settings = config.generate
    entries = load_replies(config)
    tasks = [task for task in make_tasks(products, entries, quality_filter, config) if task.is_open]
    replies = replies_per_image(entries)
    requests = -(-int(len(tasks) * replies * 1000) // 1000)
    usage, source = _tokens_per_request(config, tasks, entries, count=count)
    total = Usage(requests * usage.input, requests * usage.output)
    share = settings.batch_price if settings.batch else 1.0
    duration = ["time               up to a day per round, according to the vendor"]
    if not settings.batch:
        duration = duration_lines(settings, "generate.", requests, total, entries)
    return "\n".join(
        [
            *service_lines(settings),
            f"images left        {len(tasks):,} of {len(products):,}",
            f"requests           {requests:,} ({replies:.2f} per image)",
            f"tokens             {total.input:,} in, {total.output:,} out ({source})",
            *price_lines(settings, "generate.", total, entries, share),
            *duration,
        ]
    )


def _tokens_per_request(
    config: Config, tasks: Sequence[Task], entries: Sequence[JournalEntry], *, count: bool
) -> tuple[Usage, str]:
    """Return the tokens of a typical request, and where the number is from."""
    settings = config.generate
    paid = [entry.usage for entry in entries if entry.usage.input and entry.usage.counted]
    output = _OUTPUT_TOKENS * settings.questions
    if paid:
        output = round(sum(usage.output for usage in paid) / len(paid))
    system = instruction(settings.prompt, settings.questions, settings.allow_brands)
    if count and tasks and (counts := _vendor_counts(config, system, tasks)):
        return Usage(round(sum(counts) / len(counts)), output), "input counted by the vendor"
    if paid:
        mean = round(sum(usage.input for usage in paid) / len(paid))
        return Usage(mean, output), f"as in {len(paid):,} replies"
    estimator = TokenEstimator(settings.image_size)
    sizes = [estimator.estimate(task.request(system)) for task in tasks[:_ESTIMATED_IMAGES]]
    return Usage(round(sum(sizes) / max(1, len(sizes))), output), "estimated"


def _vendor_counts(config: Config, system: str, tasks: Sequence[Task]) -> list[int]:
    """Return the input tokens of a few requests by the vendor's count, which is free.

    Images that can't be read are passed over, as they will be by the run.

    Raises:
        UserError: the key, the account or the model is refused.
        RetryLaterError: the service doesn't answer.
    """
    settings = config.generate
    with open_archive(config.data.raw) as archive, open_clients(settings) as keys:
        client = keys[0].client
        requests = _readable_requests(archive, system, tasks, settings.image_size)
        try:
            return [client.count_tokens(request) for request in islice(requests, _COUNTED_IMAGES)]
        except (InvalidKeyError, UnknownModelError, RequestRefusedError) as error:
            raise UserError(
                f"the vendor doesn't count the tokens: {error}. Check the API key, its account, "
                "and generate.model, or leave out --count-tokens."
            ) from None
        except ServiceError as error:
            raise RetryLaterError(
                f"the vendor can't count the tokens now: {error}. Run it again later, or leave out "
                "--count-tokens."
            ) from None


def _readable_requests(
    archive: Archive, system: str, tasks: Sequence[Task], size: int
) -> Iterator[Request]:
    """Yield the requests of the tasks whose image can be read."""
    for task in tasks:
        try:
            yield task.request(system, archive.jpeg(task.image_path, size))
        except ImageError:
            continue
