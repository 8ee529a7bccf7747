"""A run that stopped because row after row failed alike, and the runs after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import read_table
from abo_vqa.models.answering.sampling import sample_rows
from abo_vqa.remote.failure_streaks import MIN_STREAK
from tests.support.endpoints import HOSTED_PREDICTIONS, add_endpoint, answer_hosted
from tests.support.servers.openai_chat import OpenAIServer

STOPPED = "questions in a row got no answer"


def requests_until_stopped(server: OpenAIServer) -> int:
    """Run until the stop; return how many requests that took."""
    before = len(server.generated())
    with pytest.raises(UserError, match=STOPPED):
        answer_hosted()
    return len(server.generated()) - before


@pytest.mark.parametrize(("fault", "control"), [("torn", 0), ("empty_text", 1)])
def test_each_restart_pays_for_one_more_failure(
    hosted_project: Path, fault: str, control: int
) -> None:
    """A control question decides as well, unless replies are cut off."""
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai", concurrency=1)
        server.plan("*", *[""] * 6, *[fault] * 99)
        assert requests_until_stopped(server) == 6 + MIN_STREAK + control
        add_endpoint(server.url, "openai", concurrency=4)
        for _ in range(3):
            assert requests_until_stopped(server) == 1 + control
        server.plan("*")
        answer_hosted()
        assert (read_table(HOSTED_PREDICTIONS)["error"] == "").sum() == 21


def test_failures_before_a_kill_count(hosted_project: Path) -> None:
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai", concurrency=1)
        server.plan("*", "", "", *["torn"] * 99)
        assert requests_until_stopped(server) == 2 + MIN_STREAK
        [journal] = Path(".cache/abo-vqa/endpoint").glob("*/replies-0.jsonl")
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("".join(lines[:-2]))  # as if killed after three of them
        assert requests_until_stopped(server) == 2


def write_questions(count: int) -> list[str]:
    """A table of questions, all about one image; returns them in the order they are asked in."""
    rows = [f"00/00000001.jpg,question {i:02}?,red" for i in range(count)]
    Path("data/vqa.csv").write_text("\n".join(["image_path,question,answer", *rows]))
    return sample_rows(read_table("data/vqa.csv"), load_config().seed, 1.0)["question"].tolist()


def test_images_that_are_refused_one_after_the_other_are_rows_with_errors(
    hosted_project: Path,
) -> None:
    """A refusal costs nothing, and no journal has it: each run begins with all of them."""
    questions = write_questions(20)
    with OpenAIServer() as server:
        server.answers_squares = True
        add_endpoint(server.url, "openai", concurrency=1)
        for question in questions[3:16]:
            server.plan(question, *["400"] * 99)
        answer_hosted()
        table = read_table(HOSTED_PREDICTIONS)
        assert table["error"].str.contains("unsupported image").sum() == 13
        assert len(server.generated()) == 20 + 2  # and a control question after five of them


@pytest.mark.parametrize(("blocked", "stops"), [(7, 0), (12, 1)])
def test_images_that_are_blocked_one_after_the_other_are_rows_with_errors(
    hosted_project: Path, blocked: int, stops: int
) -> None:
    """Nothing but them is left for the next run, which would stop for ever."""
    questions = write_questions(20)
    with OpenAIServer() as server:
        server.answers_squares = True
        add_endpoint(server.url, "openai", concurrency=1)
        for question in questions[3 : 3 + blocked]:
            server.plan(question, *["refused"] * 99)
        for _ in range(stops):
            requests_until_stopped(server)
        answer_hosted()
        table = read_table(HOSTED_PREDICTIONS)
        assert (table["error"] == "the model wrote no answer (REFUSAL)").sum() == blocked
        assert (table["error"] == "").sum() == 20 - blocked
        sent = len(server.generated())
        assert sent <= 20 + 2 * blocked + 3  # none more than three times, and the controls
        answer_hosted()
        assert len(server.generated()) == sent
