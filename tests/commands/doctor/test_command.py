"""The command as a whole: what is printed, its exit code, broken checkouts, secrets."""

import json
import os
import subprocess
import sys

import pytest

from abo_vqa.cli import main
from tests.support import ROOT


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    monkeypatch.delenv("GEMINI_API_KEYS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def states(text):
    """(state, name) of every line that is a finding."""
    words = [line.split(maxsplit=2) for line in text.splitlines() if line.startswith("  ")]
    return [(w[0], w[1]) for w in words if w[0] in ("ok", "warning", "problem")]


def test_a_sound_checkout_has_no_problem(checkout, capsys):
    assert main(["doctor", "--quick"]) == 0
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line and line[0].isalpha()] == [
        "machine", "GPU", "files", "weights", "services",
    ]  # fmt: skip
    assert ("ok", "settings") in states(said)
    assert said.splitlines()[-1].endswith("0 problem(s)")
    assert not (checkout / "mlflow.db").exists()


def test_from_a_subfolder(checkout, capsys, monkeypatch):
    monkeypatch.chdir(checkout / "conf")
    assert main(["doctor", "--quick"]) == 0
    assert ("ok", "settings") in states(capsys.readouterr().out)


def test_one_model_and_the_same_for_programs(checkout, capsys):
    file = checkout / "out" / "found.json"
    file.parent.mkdir()
    assert main(["doctor", "--model", "vilt", "--json", str(file)]) == 0
    said = capsys.readouterr().out
    assert ("ok", "vilt") in states(said)
    assert "blip2 " not in said.partition("models\n  ")[2]
    found = json.loads(file.read_text())
    assert found["states"]["problem"] == 0
    assert len(found["findings"]) == len(states(said))
    (one,) = [f for f in found["findings"] if f["group"] == "models"]
    assert one["name"] == "vilt"
    assert one["numbers"]["answer_s"] > 0


def test_json_on_stdout_is_all_of_it(checkout, capsys):
    assert main(["doctor", "--quick", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["states"]["ok"] > 10


def test_settings_that_are_wrong_dont_stop_the_other_checks(checkout, capsys):
    with (checkout / "params.yaml").open("a") as params:
        params.write("\nsede: 1\n")
    assert main(["doctor"]) == 2
    said = capsys.readouterr()
    (line,) = [line for line in said.out.splitlines() if line.split()[1:2] == ["settings"]]
    assert line.split()[0] == "problem"
    assert "sede: unknown setting; did you mean seed?" in line
    assert {name for state, name in states(said.out) if state == "ok"} >= {
        "python", "memory", "driver", "torch", "api",
    }  # fmt: skip
    assert "Traceback" not in said.out + said.err


def test_outside_of_a_checkout(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 2
    said = capsys.readouterr()
    assert "params.yaml doesn't exist in" in said.out
    assert "isn't a DVC repository" in said.out
    assert "Not foreseen" not in said.out
    assert "Traceback" not in said.out + said.err
    assert not list(tmp_path.iterdir())


def test_a_checkout_in_pieces(checkout, capsys):
    """Neither weights nor archives, a broken dvc.yaml: one line each, to the end."""
    (checkout / "dvc.yaml").write_text("stages: [\n")
    (checkout / "models/blip/model.safetensors").unlink()
    (checkout / ".dvc/config").write_text("nonsense")
    (checkout / "mlflow.db").write_text("no database" * 100)
    for name in ("config.json", "preprocessor_config.json"):
        (checkout / "models/vilt" / name).write_text("{")
    assert main(["doctor"]) == 2
    said = capsys.readouterr()
    found = {name: state for state, name in states(said.out)}
    assert found["vilt"] == found["tracking"] == "problem"
    assert found["blip2"] == "ok"
    assert "Traceback" not in said.out + said.err


def test_options_that_exclude_each_other(checkout, capsys):
    assert main(["doctor", "--quick", "--model", "blip"]) == 2
    assert "--quick tries no model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (".", "--json . is a folder"),
        ("gone/found.json", "--json gone/found.json: there is no folder gone"),
    ],
)
def test_a_file_that_cant_be_written_is_named_with_its_option(checkout, capsys, file, said):
    assert main(["doctor", "--quick", "--json", file]) == 2
    found = capsys.readouterr()
    assert said in found.err
    assert not found.out
    assert not (checkout / "gone").exists()


def test_no_secret_is_printed_in_any_encoding(checkout):
    """In its own process: keys, tokens and passwords in the environment and in configurations."""
    secrets = {
        "GEMINI_API_KEYS": "AIzaNotToBeSeen0001,AIzaNotToBeSeen0002",
        "HF_TOKEN": "hf_NotToBeSeen0003",
        "MLFLOW_TRACKING_TOKEN": "NotToBeSeen0004",
        "MLFLOW_TRACKING_URI": "http://jane:NotToBeSeen0005@127.0.0.1:9",
        "HTTPS_PROXY": "http://joe:NotToBeSeen0006@127.0.0.1:9",
        "AWS_SECRET_ACCESS_KEY": "NotToBeSeen0007",
    }
    (checkout / ".dvc/config").write_text(
        "['remote \"a\"']\n    url = https://jim:NotToBeSeen0008@host/x\n"
        "    password = NotToBeSeen0009\n"
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "src/abo_vqa"), "doctor", "--quick"],
        env={**os.environ, **secrets, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr  # the tracking server is down
    assert "2 in GEMINI_API_KEYS" in done.stdout
    assert "https://***@host/x" in done.stdout
    assert "NotToBeSeen" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
