"""No check stops the others: whatever it raises is a finding."""

from pathlib import Path

import pytest

from abo_vqa.commands.doctor import files
from abo_vqa.commands.doctor.findings import Checkout, NotCheckedError, examine, ok
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError

CASE = Checkout(Path(), None, "broken")


def raising(error):
    def check(case):
        yield ok("before", "fine")
        raise error

    return check


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (UserError("no file.\nMake it."), "problem", "no file. Make it."),
        (KeyError("x"), "problem", "KeyError: 'x'"),
        (RuntimeError("http://jane:secret@host refused"), "problem",
         "RuntimeError: http://***@host refused"),
        (ModuleNotFoundError("No module named 'dvc'", name="dvc"), "problem",
         "dvc isn't installed"),
        (PermissionError(13, "Permission denied", "/x"), "problem",
         "can't use /x: permission denied"),
        (NotCheckedError("no weights"), "warning", "no weights"),
    ],
)  # fmt: skip
def test_an_exception_is_a_finding_after_those_that_were_made(error, state, said):
    first, last = examine("check", raising(error), CASE)
    assert (first.name, first.state) == ("before", "ok")
    assert (last.name, last.state) == ("check", state)
    assert last.found.startswith(said)
    assert "\n" not in last.found


def test_a_check_that_needs_settings_says_that_there_are_none():
    (found,) = examine("device", lambda case: [ok("x", case.settings.profile)], CASE)
    assert (found.state, found.name) == ("warning", "device")
    assert "the settings can't be read" in found.found


def test_an_interruption_isnt_swallowed():
    with pytest.raises(KeyboardInterrupt):
        list(examine("check", raising(KeyboardInterrupt()), CASE))


def test_models_that_would_filter_what_they_are_scored_on():
    config = load_config()
    filters = {"models": ("blip", "blind"), "min_agreement": 0.5}
    circular = config.model_copy(update={"verify": config.verify.model_copy(update=filters)})
    states = [
        [one.state for one in examine("settings", files.settings, Checkout(Path(), each))]
        for each in (config, circular)
    ]
    assert states == [["ok"], ["ok", "warning"]]
