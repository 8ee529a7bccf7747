"""The sample's command: one message for a mistake, before anything is drawn or trained."""

import pytest
from sample.__main__ import main

from tests.support import ROOT


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["archives", "--workers", "0"], "--workers 0: at least 1."),
        (["archives", "--data", "README.md/x", "--workers", "1"], "can't use README.md"),
    ],
)
def test_a_mistake_gets_one_message(monkeypatch, capsys, options, message):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sample.archives.draw_catalogue", lambda seed: None)
    assert main(options) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_another_folder_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["ship"]) == 2
    assert "isn't the repository's root" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_unknown_part_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["everything"])
    assert stopped.value.code == 2
    assert "archives" in capsys.readouterr().err
