"""An annotation that stopped because image after image failed alike, and the runs after it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from abo_vqa.annotate.online.image_failures import last_streak
from abo_vqa.core.errors import UserError
from abo_vqa.remote.failure_streaks import MIN_STREAK
from abo_vqa.remote.journal import DROPPED, JournalEntry
from abo_vqa.stages.generate import run
from tests.support.annotation import make, vqa
from tests.support.openai_annotation import openai_settings
from tests.support.servers.openai_chat import OpenAIServer

pytestmark = pytest.mark.usefixtures("quick_retries", "openai_key")


@pytest.fixture
def server(openai_server: OpenAIServer) -> OpenAIServer:
    return openai_server


@pytest.mark.parametrize("fault", ["one_pair", "empty_text"])
@pytest.mark.parametrize("batch", [False, True])
def test_each_restart_pays_for_one_more_failure(
    here: Path, server: OpenAIServer, fault: str, batch: bool
) -> None:
    make(here, 40)
    server.plan("*", *[fault] * 300)
    with pytest.raises(UserError, match=f"^{MIN_STREAK} images in a row got"):
        run(openai_settings(server, concurrency=4))
    assert len(server.generated()) == MIN_STREAK
    for restart in (1, 2):
        with pytest.raises(UserError, match=f"^{MIN_STREAK + restart} images in a row got"):
            run(openai_settings(server, concurrency=4, batch=batch))
        assert len(server.generated()) == MIN_STREAK + restart
    assert not server.batches
    server.plan("*")
    run(openai_settings(server))
    assert len(vqa(here)) == 120


def test_an_image_that_fails_again_holds_up_no_others(here: Path, server: OpenAIServer) -> None:
    """Those that were part of the failure are asked about last."""
    make(here, 12)
    server.plan("*", *["empty_text"] * MIN_STREAK)
    with pytest.raises(UserError, match="images in a row got no valid pair"):
        run(openai_settings(server, concurrency=1))
    server.plan("product 0", *["empty_text"] * 9)
    run(openai_settings(server, concurrency=1))
    assert len(vqa(here)) == 3 * 11


def test_what_was_dropped_by_choice_is_no_evidence() -> None:
    empty = [JournalEntry(f"{i}.jpg", "k", finish="STOP") for i in range(MIN_STREAK)]
    assert last_streak(empty, 3).is_systematic
    dropped = [replace(entry, problem=f"{DROPPED}: no_pairs (STOP)") for entry in empty]
    assert last_streak([*empty, *dropped], 3).kinds == {}
    assert list(last_streak([*empty, *dropped, empty[0]], 3).kinds) == ["0.jpg"]
