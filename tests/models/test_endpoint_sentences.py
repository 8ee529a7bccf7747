"""A model behind an API that answers in sentences where one word was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.summary import Summary
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.models.long_answers import AnswerLengths
from abo_vqa.stages import baseline
from tests.support.endpoints import HOSTED_PREDICTIONS, add_endpoint
from tests.support.servers.openai_chat import OpenAIServer
from tests.support.stages import run_stage

ADVICE = "set answer: last_word under models.hosted"


def run() -> Summary:
    return run_stage(baseline, load_config(), model="hosted")


def test_sentences_are_counted_and_the_last_word_is_free(
    hosted_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai")
        server.plan("*", *["sentence"] * 99)
        summary = run()
        assert summary.metrics["long"] == 21
        assert "21 of 21 answers have more than 3 words, e.g. 'The image shows" in summary.message
        assert ADVICE in summary.message
        warning = capsys.readouterr().err
        assert warning.count("20 of 20 answers have more than 3 words") == 1  # the first ones
        sent = len(server.generated())
        add_endpoint(server.url, "openai", answer="last_word")
        summary = run()
        assert len(server.generated()) == sent
        assert (summary.metrics["long"], ADVICE in summary.message) == (0, False)
        table = read_table(HOSTED_PREDICTIONS)
    with OpenAIServer() as clean:
        add_endpoint(clean.url, "openai", temperature=0.5)
        assert "more than 3 words" not in run().message
        assert read_table(HOSTED_PREDICTIONS).equals(table)
        assert "more than 3 words" not in capsys.readouterr().err


def test_sentences_are_as_expected_where_the_table_has_them(hosted_project: Path) -> None:
    table = read_table("data/vqa.csv")
    write_table(table.assign(answer="a chair made of red plastic"), "data/vqa.csv")
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai")
        server.plan("*", *["sentence"] * 99)
        summary = run()
    assert (summary.metrics["long"], ADVICE in summary.message) == (21, False)


def test_an_example_cannot_change_the_terminal() -> None:
    lengths = AnswerLengths.of(["red", "a \x1b[31m word " * 30, "it is a chair", ""])
    assert (lengths.total, lengths.long, lengths.are_long) == (3, 2, True)
    message = lengths.describe("hosted", "here")
    assert "\x1b" not in message
    assert len(message) < 400


def test_what_is_paid_for_has_one_address_whatever_the_answer_is(hosted_project: Path) -> None:
    add_endpoint("http://localhost:1/v1", "openai", "one")
    add_endpoint("http://localhost:2/v1", "openai", "two", answer="last_word")
    with pytest.raises(UserError, match=r"models\.one and models\.two differ only in base_url"):
        load_config()
