"""What a model behind an API has cost, and what the questions that are left will cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from abo_vqa.core.errors import UserError
from abo_vqa.data.archive import Archive, open_archive
from abo_vqa.data.image_decoding import sha1
from abo_vqa.data.image_files import ImageError
from abo_vqa.models.endpoint.paid_answers import current_replies, reply_journals, reply_key
from abo_vqa.models.endpoint.replies import ReplyRecord
from abo_vqa.models.registry import BLIND_MODEL, checkpoint_of
from abo_vqa.remote.budget import TokenEstimator, describe_cost, total_cost, total_usage
from abo_vqa.remote.contract import Request, Usage
from abo_vqa.remote.estimates import duration_lines, price_lines, service_lines

if TYPE_CHECKING:
    import pandas as pd

    from abo_vqa.core.config import CheckpointConfig, Config
    from abo_vqa.core.service_config import EndpointConfig
    from abo_vqa.remote.journal import JournalEntry

DRY_RUN = "of models behind an API: estimate requests, tokens, cost and time; send nothing"
"""Help for the option --dry-run."""

_OUTPUT_TOKENS = 10  # a word, as long as there is no reply


class Spending(NamedTuple):
    """What a model has cost so far, in all runs.

    Attributes:
        text: for people; "" if the model isn't behind an API.
        metrics: `cost_usd`; {} if there is no price.
    """

    text: str = ""
    metrics: Mapping[str, float] = MappingProxyType({})


def spending_of(name: str, config: Config) -> Spending:
    """Return what a model has cost so far.

    Args:
        name: the model's name.
        config: the settings.
    """
    checkpoint = checkpoint_of(name, config)
    if not (settings := checkpoint.endpoint):
        return Spending()
    entries = _replies(checkpoint)
    usage, cost = total_usage(entries), total_cost(entries, settings)
    text = (
        f"{name}: {describe_cost(cost, settings)} so far, for {len(entries):,} replies with "
        f"{usage.input:,} tokens in and {usage.output:,} out"
    )
    return Spending(text, {"cost_usd": cost} if settings.prices else {})


def estimate_questions(name: str, config: Config, rows: pd.DataFrame) -> str:
    """Return a table of what is still to be asked of a model behind an API, and what it takes.

    Args:
        name: the model's name.
        config: the settings.
        rows: columns image_path and question.

    Raises:
        UserError: the model runs on this machine.
    """
    checkpoint = None if name == BLIND_MODEL else checkpoint_of(name, config)
    if not checkpoint or not (settings := checkpoint.endpoint):
        raise UserError(
            f"--dry-run estimates what a model behind an API costs; {name} runs on this machine."
        )
    entries = _replies(checkpoint)
    texts = [
        (str(path), checkpoint.prompt.replace("{question}", str(question)))
        for path, question in dict.fromkeys(zip(rows["image_path"], rows["question"], strict=True))
    ]
    record = ReplyRecord()
    for journal in reply_journals(checkpoint.reply_settings()):
        record.add_journal(current_replies(journal, settings))
    with open_archive(config.data.raw) as archive:
        left = list(_open_texts(texts, archive, record)) if entries else [t for _, t in texts]
    total, source = _tokens(left, settings, entries)
    lines = [
        *service_lines(settings),
        f"requests           {len(left):,} of {len(texts):,} questions",
        f"tokens             {total.input:,} in, {total.output:,} out ({source})",
        *price_lines(settings, f"models.{name}.", total, entries),
        *duration_lines(settings, f"models.{name}.", len(left), total, entries),
    ]
    return "\n".join(lines)


def _replies(checkpoint: CheckpointConfig) -> list[JournalEntry]:
    journals = reply_journals(checkpoint.reply_settings())
    return [entry for journal in journals for entry in journal]


def _open_texts(
    texts: list[tuple[str, str]], archive: Archive, record: ReplyRecord
) -> Iterator[str]:
    """Yield the prompts that have no reply yet.

    Images that aren't there are never sent. Those that don't decode count all the same: it would
    take as long as a run to know.
    """
    sources: dict[str, str] = {}
    for path, text in texts:
        if path not in sources:
            try:
                sources[path] = sha1(archive.read(path))
            except ImageError:
                sources[path] = ""
        if sources[path] and record.is_open(reply_key(text, sources[path])):
            yield text


def _tokens(
    texts: list[str], settings: EndpointConfig, entries: list[JournalEntry]
) -> tuple[Usage, str]:
    """Return the tokens of all requests, and where the number is from."""
    paid = [entry for entry in entries if entry.usage.input and entry.usage.counted]
    if paid:
        paid_usage = total_usage(paid)
        inputs, outputs = paid_usage.input / len(paid), paid_usage.output / len(paid)
        total = Usage(round(len(texts) * inputs), round(len(texts) * outputs))
        return total, f"as in {len(paid):,} replies"
    estimator = TokenEstimator(settings.image_size)
    sizes = sum(estimator.estimate(Request("", text, b"")) for text in texts)
    return Usage(sizes, len(texts) * _OUTPUT_TOKENS), "estimated"
