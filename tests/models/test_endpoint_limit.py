"""Another output limit of an endpoint: only what the former one cut off is paid for again."""

from __future__ import annotations

from pathlib import Path

import pytest

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import read_table
from tests.support.endpoints import HOSTED_PREDICTIONS, add_endpoint, answer_hosted, asked
from tests.support.former_versions import make_former
from tests.support.servers.openai_chat import OpenAIServer

QUESTIONS = 21
JOURNALS = Path(".cache/abo-vqa/endpoint")


def number_of_errors() -> int:
    return int((read_table(HOSTED_PREDICTIONS)["error"] != "").sum())


@pytest.mark.parametrize("is_former", [False, True])
@pytest.mark.parametrize(("limit", "asked_again"), [(1024, 0), (2048, 1)])
def test_only_what_was_cut_off_is_asked_for_again(
    hosted_project: Path, limit: int, asked_again: int, is_former: bool
) -> None:
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai", concurrency=1, price_input=0.0, price_output=1.0)
        server.plan("*", "", "thoughts", *[""] * 19, "thoughts")  # the second, and again
        answer_hosted()
        errors = number_of_errors()
        assert sum(asked(server).values()) == QUESTIONS + 1
        if is_former:
            [folder] = JOURNALS.iterdir()
            make_former(folder, 1024)
        changed = {"max_output_tokens": limit, "price_input": 0.0, "price_output": 1.0}
        if asked_again:  # two replies have spent the limit of 1,024
            add_endpoint(server.url, "openai", **changed, budget_usd=0.0021)
            with pytest.raises(UserError, match="budget_usd"):
                answer_hosted()
        add_endpoint(server.url, "openai", **changed)
        answer_hosted()
        assert sum(asked(server).values()) == QUESTIONS + 1 + asked_again
        assert number_of_errors() == errors - asked_again


def test_two_addresses_share_replies_whatever_their_limits(hosted_project: Path) -> None:
    for name, port, limit in (("one", 1, 1024), ("two", 2, 2048)):
        add_endpoint(f"http://localhost:{port}/v1", "openai", name, max_output_tokens=limit)
    with pytest.raises(UserError, match="differ only in base_url and max_output_tokens, which"):
        load_config()
