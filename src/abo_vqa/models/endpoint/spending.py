"""What a model behind an API has cost, and what the questions that are left will cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError
from abo_vqa.data.archive import Archive, open_archive
from abo_vqa.data.image_decoding import sha1
from abo_vqa.data.image_files import ImageError
from abo_vqa.models.endpoint.paid_answers import reply_journals, reply_key
from abo_vqa.models.endpoint.replies import ReplyRecord
from abo_vqa.models.registry import BLIND_MODEL, checkpoint_of
from abo_vqa.remote.budget import TokenEstimator, describe_cost, total_cost
from abo_vqa.remote.contract import Request, Usage
from abo_vqa.remote.estimates import duration_lines, price_lines, service_lines
from abo_vqa.remote.history import mark_outgrown

if TYPE_CHECKING:
    import pandas as pd

    from abo_vqa.core.config import CheckpointConfig, Config
    from abo_vqa.remote.journal import JournalEntry

DRY_RUN = "of models behind an API: estimate requests, tokens, cost and time; send nothing"
"""Help for the option --dry-run."""

_OUTPUT_TOKENS = 10  # a word, as long as there is no reply


def describe_spending(name: str, config: Config) -> str:
    """Return what a model has cost so far, in all runs; "" if it isn't behind an API.

    Args:
        name: the model's name.
        config: the settings.
    """
    checkpoint = checkpoint_of(name, config)
    if not checkpoint.endpoint:
        return ""
    entries = _replies(checkpoint)
    spent, cost = _usage(entries), total_cost(entries, checkpoint.endpoint)
    amount = describe_cost(cost, checkpoint.endpoint)
    return (
        f"{name}: {amount} so far, for {len(entries):,} replies with {spent.input:,} tokens in and "
        f"{spent.output:,} out"
    )


def spending_metrics(name: str, config: Config) -> dict[str, float]:
    """Return the USD that a model has cost so far as a metric; {} if there is no price.

    Args:
        name: the model's name.
        config: the settings.
    """
    checkpoint = checkpoint_of(name, config)
    if not checkpoint.endpoint or not checkpoint.endpoint.prices:
        return {}
    return {"cost_usd": total_cost(_replies(checkpoint), checkpoint.endpoint)}


def estimate_questions(name: str, config: Config, rows: pd.DataFrame) -> str:
    """Return a table of what is still to be asked of a model behind an API, and what it takes.

    Args:
        name: the model's name.
        config: the settings.
        rows: columns image_path and question.

    Raises:
        UserError: the model runs on this machine.
    """
    if name == BLIND_MODEL or not (settings := checkpoint_of(name, config).endpoint):
        raise UserError(
            f"--dry-run estimates what a model behind an API costs; {name} runs on this machine."
        )
    checkpoint = checkpoint_of(name, config)
    entries = _replies(checkpoint)
    texts = [
        (str(path), checkpoint.prompt.replace("{question}", str(question)))
        for path, question in dict.fromkeys(zip(rows["image_path"], rows["question"], strict=True))
    ]
    record = ReplyRecord()
    for journal in reply_journals(checkpoint.reply_settings()):
        limit = settings.max_output_tokens
        record.add_journal(e for e in journal if not mark_outgrown(e, limit).is_outgrown)
    with open_archive(config.data.raw) as archive:
        left = list(_open_texts(texts, archive, record)) if entries else [t for _, t in texts]
    total, source = _tokens(left, checkpoint, entries)
    cost = total_cost(entries, settings)
    lines = [
        *service_lines(settings),
        f"requests           {len(left):,} of {len(texts):,} questions",
        f"tokens             {total.input:,} in, {total.output:,} out ({source})",
        *price_lines(settings, f"models.{name}.", total, _usage(entries), cost, 1.0),
        *duration_lines(settings, f"models.{name}.", len(left), total, entries),
    ]
    return "\n".join(lines)


def _replies(checkpoint: CheckpointConfig) -> list[JournalEntry]:
    journals = reply_journals(checkpoint.reply_settings())
    return [entry for journal in journals for entry in journal]


def _usage(entries: list[JournalEntry]) -> Usage:
    return Usage(
        sum(entry.usage.input for entry in entries), sum(entry.usage.output for entry in entries)
    )


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
    texts: list[str], checkpoint: CheckpointConfig, entries: list[JournalEntry]
) -> tuple[Usage, str]:
    """Return the tokens of all requests, and where the number is from."""
    paid = [entry for entry in entries if entry.usage.input and entry.usage.counted]
    if paid:
        mean = _usage(paid)
        inputs, outputs = mean.input / len(paid), mean.output / len(paid)
        total = Usage(round(len(texts) * inputs), round(len(texts) * outputs))
        return total, f"as in {len(paid):,} replies"
    assert checkpoint.endpoint is not None
    estimator = TokenEstimator(checkpoint.endpoint.image_size)
    sizes = sum(estimator.estimate(Request("", text, b"")) for text in texts)
    return Usage(sizes, len(texts) * _OUTPUT_TOKENS), "estimated"
