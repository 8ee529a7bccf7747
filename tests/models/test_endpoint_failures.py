"""Models behind an API as baselines: rows that fail, alone or with all others."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.core.tables import read_table
from tests.support.endpoints import HOSTED_PREDICTIONS, add_endpoint, answer_hosted
from tests.support.servers.openai_chat import OpenAIServer


def one_answer_missing(server: OpenAIServer, *faults: str) -> tuple[pd.DataFrame, str]:
    """Answer all rows, forget the answer to one question, which is to meet faults from now on.

    Returns:
        The table, and the question.
    """
    answer_hosted()
    table = read_table(HOSTED_PREDICTIONS)
    [file] = Path(".cache/abo-vqa/endpoint").glob("*/replies-0.jsonl")
    *lines, last = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines))
    server.calls.clear()
    question = json.loads(last)["image"].rpartition("\n")[2]
    server.plan(question, *faults)
    return table, question


@pytest.mark.parametrize("fault", ["500", "hang"])
def test_a_question_that_always_fails_is_a_row_with_an_error(
    hosted_project: Path, fault: str
) -> None:
    with OpenAIServer(hang=2) as server:
        # Patience ends before the third try, where each try takes its whole time. That time is long
        # enough for the control questions, which are answered at once, on a busy machine.
        patience = 4.0 if fault == "500" else 1.3
        add_endpoint(server.url, "openai", attempts=3, patience_s=patience, timeout_s=1.0)
        table, question = one_answer_missing(server, *[fault] * 99)
        answer_hosted()
        new = read_table(HOSTED_PREDICTIONS)
        changed = new["error"] != table["error"]
        assert changed.sum() == 1
        assert sum(call.product == question for call in server.generated()) <= 4
        controls = [call for call in server.generated() if call.product != question]
        assert 1 <= len(controls) <= 3
        assert all("square" in call.product for call in controls)
        # The journal has control questions; they are nobody's answers.
        server.plan(question)
        answer_hosted()
        assert read_table(HOSTED_PREDICTIONS).equals(table)


def test_a_service_that_is_away_is_no_row_s_fault(hosted_project: Path) -> None:
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai", attempts=2, patience_s=1.0)
        table, _ = one_answer_missing(server)
        server.plan("*", *["500"] * 99)
        with pytest.raises(RetryLaterError, match="no answer for 1 s"):
            answer_hosted()
        server.plan("*")
        answer_hosted()
        assert read_table(HOSTED_PREDICTIONS).equals(table)


@pytest.mark.parametrize(
    ("faults", "tries", "error"),
    [
        (["empty_text", "tool_calls"], 3, ""),
        (["no_choices"], 2, ""),
        (["torn"], 2, ""),
        (["fence"], 1, ""),
        (["thought"], 1, ""),
        (["marked"], 1, ""),
        (["empty_text"] * 9, 3, "the model wrote no answer (STOP)"),
        (["torn"] * 9, 2, "the reply was cut off by max_output_tokens (MAX_TOKENS)"),
        (["refused"] * 9, 2, "the model wrote no answer (REFUSAL)"),
    ],
)
def test_replies_without_an_answer_are_asked_for_again(
    hosted_project: Path, faults: list[str], tries: int, error: str
) -> None:
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai")
        table, _ = one_answer_missing(server, *faults)
        answer_hosted()
        new = read_table(HOSTED_PREDICTIONS)
        [row] = (new["error"] != table["error"]).to_numpy().nonzero()[0] if error else [None]
        if error:
            assert (new["error"][row], new["prediction"][row]) == (error, "")
        else:
            assert new.equals(table)
        assert len(server.generated()) == tries
        answer_hosted()  # what was paid for isn't asked again, even if it brought nothing
        assert len(server.generated()) == tries
        assert read_table(HOSTED_PREDICTIONS).equals(new)


@pytest.mark.parametrize("fault", ["empty_text", "torn"])
def test_a_server_that_fails_for_all_is_held_against_no_row(
    hosted_project: Path, fault: str
) -> None:
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai", concurrency=4)
        server.plan("*", *[""] * 6, *[fault] * 99)
        for _ in range(4):
            with pytest.raises(UserError, match="questions in a row got no answer"):
                answer_hosted()
        server.plan("*")
        answer_hosted()
        table = read_table(HOSTED_PREDICTIONS)
        assert (table["error"] != "").sum() == 3  # the image that doesn't decode
    with OpenAIServer() as clean:
        add_endpoint(clean.url, "openai", temperature=0.5)
        answer_hosted()
        assert read_table(HOSTED_PREDICTIONS).equals(table)


def test_a_level_of_thinking_that_the_model_does_not_know(hosted_project: Path) -> None:
    with OpenAIServer() as server:
        server.efforts = ("low", "none")
        server.wordings["reasoning_effort"] = "reasoning_effort must be one of low, none"
        add_endpoint(server.url, "openai", thinking="minimal")
        with pytest.raises(UserError, match=r"doesn't take thinking: minimal.*must be one of low"):
            answer_hosted()
        assert len(server.generated()) == 1
        add_endpoint(server.url, "openai", thinking="none")
        answer_hosted()
        assert server.generated()[-1].body["reasoning_effort"] == "none"
