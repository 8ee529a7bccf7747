"""Tokens that a reply was paid for: as the server counts them, or the most that they can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.genai import types
from openai.types.chat import ChatCompletion

from abo_vqa.core.service_config import EndpointConfig
from abo_vqa.remote.budget import Budget, TokenEstimator
from abo_vqa.remote.contract import Reply, Request, Usage
from abo_vqa.remote.gemini import to_reply
from abo_vqa.remote.journal import AnnotationJournal, JournalEntry, read_journal
from abo_vqa.remote.openai_replies import completion_reply, first_choice

UNKNOWN = Usage(counted=False)
REQUEST = Request("", "what is it?", b"")


def settings(**changes: Any) -> EndpointConfig:
    given = {"protocol": "openai", "model": "m", "price_input": 1, "price_output": 10}
    return EndpointConfig.model_validate(given | changes)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 300, "completion_tokens": 7, "total_tokens": 307}, Usage(300, 7)),
        ({"prompt_tokens": 300, "completion_tokens": 7, "total_tokens": 807}, Usage(300, 507)),
        ({"prompt_tokens": 300, "completion_tokens": 0, "total_tokens": 300}, Usage(300, 0)),
        ({"prompt_tokens": 300, "completion_tokens": 7}, Usage(300, 7)),
        ({"prompt_tokens": 300}, UNKNOWN),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, UNKNOWN),
        ("unknown", UNKNOWN),
        (None, UNKNOWN),
    ],
)
def test_of_chat_completions(usage: Any, expected: Usage) -> None:
    message = {"role": "assistant", "content": "red"}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    # As the SDK parses a server's answer: without any validation.
    completion = ChatCompletion.construct(id="1", choices=choices, usage=usage)
    assert completion_reply(completion, first_choice(completion)).usage == expected


def test_of_gemini() -> None:
    body = {"candidates": [{"content": {"parts": [{"text": "red"}]}, "finishReason": "STOP"}]}
    counts = {"promptTokenCount": 300, "candidatesTokenCount": 7, "thoughtsTokenCount": 5}
    parse = types.GenerateContentResponse.model_validate
    assert to_reply(parse(body | {"usageMetadata": counts})).usage == Usage(300, 12)
    assert to_reply(parse(body)).usage == UNKNOWN


def test_what_is_not_counted_costs_the_most_and_teaches_nothing() -> None:
    budget = Budget(settings(), [], lambda: 0.0)
    reply = budget.bound_usage(Reply("red", usage=UNKNOWN), REQUEST)
    assert reply.usage.input > 8500
    assert reply.usage.output == 1024
    before = budget.max_cost(REQUEST)
    entry = JournalEntry("", "", usage=reply.usage)
    budget.record(entry)
    assert budget.cost == before
    for usage in (reply.usage, Usage(10, 1, counted=False)):
        budget.estimator.update(REQUEST, usage)
    assert (budget.estimator.ratio, budget.estimator.largest) == (1, 0)
    assert TokenEstimator.from_entries(settings(), [entry]).largest == 0
    assert budget.bound_usage(Reply("red", usage=Usage(10, 1)), REQUEST).usage == Usage(10, 1)


def test_the_journal_keeps_it(tmp_path: Path) -> None:
    entries = [JournalEntry("a", "1", usage=Usage(10, 5)), JournalEntry("b", "2", usage=UNKNOWN)]
    path = tmp_path / "main.jsonl"
    with AnnotationJournal(path, {}) as journal:
        journal.extend(entries)
    assert read_journal(path).entries == entries
    first, second = [json.loads(line)["usage"] for line in path.read_text().splitlines()[1:]]
    assert first == {"input": 10, "output": 5}  # as former versions read it
    assert second["counted"] is False
