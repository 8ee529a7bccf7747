"""The last screen of `make repro`: what came out, on one screen, and where to read on."""

import json
import shutil

import pytest

from abo_vqa.cli import main
from tests.support import ROOT


def metric(accuracy, gain, n=402):
    return {"accuracy": accuracy, "gain_over_blind": gain, "f1": 0.5, "n": n}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Results of three models, in a folder whose name has a blank and a per cent sign."""
    root = tmp_path / "my shop 100%"
    reports = root / "reports"
    reports.mkdir(parents=True)
    (root / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(root)
    metrics = {
        "blip": metric(0.3, 0.06),
        "blind-ngram": metric(0.24, 0),
        "finetuned": metric(0.659, 0.42),
    }
    spans = {
        name: {"accuracy": [m["accuracy"] - 0.04, m["accuracy"] + 0.04]}
        for name, m in metrics.items()
    }
    evaluation = {
        "signature": {
            "intervals": "percentile bootstrap over images, 10000 resamples, 95%, seed 42"
        },
        "best_blind": "blind-ngram",
        "intervals": spans,
    }
    (reports / "metrics.json").write_text(json.dumps(metrics))
    (reports / "evaluation.json").write_text(json.dumps(evaluation))
    (reports / "report.html").write_text("")
    return root


def test_models_by_accuracy_with_interval_gain_and_the_reports_address(results, capsys):
    assert main(["show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["finetuned", "blip", "blind-ngram"]
    assert lines[1].split()[1:6] == ["65.9%", "+42.0", "61.9", "to", "69.9"]
    assert "best blind baseline" in lines[3]
    assert lines[4].startswith("402 test questions")
    assert lines[5] == ("interval: percentile bootstrap over images, 10000 resamples, 95%, seed 42")
    assert lines[7] == "report: reports/report.html"
    assert lines[8].strip() == (results / "reports" / "report.html").as_uri()
    assert "%20" in lines[8]
    assert lines[10].startswith("next:   make ui ")
    assert "dvc exp run -S lora.r=8" in lines[11]
    assert max(len(line) for line in lines if "file://" not in line) <= 100
    assert len(lines) <= 24


def test_the_first_step_is_to_activate_the_environment_that_make_has_used(
    results, capsys, monkeypatch
):
    def steps():
        assert main(["show"]) == 0
        lines = capsys.readouterr().out.splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("next:"))
        assert max(len(line) for line in lines if "file://" not in line) <= 100
        return [line[8:] for line in lines[start:]]

    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    assert steps()[0].startswith("make ui ")  # another environment than .venv
    (results / ".venv/bin").mkdir(parents=True)
    (results / ".venv/bin/activate").touch()
    first, *others = steps()
    assert first.startswith("source .venv/bin/activate ")
    assert others[0].startswith("make ui ")
    monkeypatch.setenv("VIRTUAL_ENV", str(results / ".venv"))
    assert steps() == others


def test_how_much_can_be_right_is_told(results, capsys):
    path = results / "reports" / "evaluation.json"
    wrong = {"share": 0.1, "low": 0.06, "high": 0.14}
    ceiling = {"accuracy": 0.912, "low": 0.88, "high": 0.94, "wrong": wrong, "pairs": 120,
               "raters": 2, "left_out": 3, "confidence": 0.9}  # fmt: skip
    path.write_text(json.dumps({**json.loads(path.read_text()), "ceiling": ceiling}))
    assert main(["show"]) == 0
    out = capsys.readouterr().out
    assert "At most about 91.2% can be right (90% interval 88.0 to 94.0)" in out
    assert max(len(line) for line in out.splitlines() if "file://" not in line) <= 100
    assert main(["show", "--markdown"]) == 0
    assert "At most about 91% of all test rows can be right." in capsys.readouterr().out


def test_a_model_that_chose_the_test_rows_has_a_footnote(results, capsys):
    shutil.copy(ROOT / "params.yaml", results)
    shutil.copytree(ROOT / "conf", results / "conf")
    verifiers = {
        "blip": {"agreement": 0.345, "failed": 0},
        "blind": {"agreement": 0.2, "failed": 0},
    }
    record = {"pairs": 900, "kept": 290, "verifiers": verifiers}
    (results / "data").mkdir()

    def show(*options, **filters):
        record["filtered_by"] = filters
        (results / "data" / "verification.json").write_text(json.dumps(record))
        assert main(["show", *options]) == 0
        return capsys.readouterr().out

    assert "‡" not in show()
    out = show(min_agreement=0.5)
    assert [line.rstrip().endswith("‡") for line in out.splitlines()[1:4]] == [True, True, False]
    assert "‡ BLIP + LoRA and BLIP: the same model" in out or "‡ BLIP and BLIP + LoRA: the" in out
    assert "BLIP gives the generated answer to 34.5%" in " ".join(out.split())
    assert max(len(line) for line in out.splitlines() if "file://" not in line) <= 100
    out = show("--markdown", blind_share=0.2)
    assert "never sees the image‡ |" in out
    assert "so the accuracy is too low, and every gain over blind too high" in out


def test_of_the_blind_baselines_only_the_best_is_shown(results, capsys):
    metrics = json.loads((results / "reports" / "metrics.json").read_text())
    metrics["blind-majority"] = metric(0.1, -0.14)
    (results / "reports" / "metrics.json").write_text(json.dumps(metrics))
    assert main(["show"]) == 0
    assert "blind-majority" not in capsys.readouterr().out


def test_from_a_subfolder(results, capsys, monkeypatch):
    monkeypatch.chdir(results / "reports")
    assert main(["show"]) == 0
    assert "finetuned" in capsys.readouterr().out


def test_before_the_first_run_it_says_what_makes_results(results, capsys):
    (results / "reports" / "evaluation.json").unlink()
    assert main(["show"]) == 2
    said = capsys.readouterr().err
    assert "evaluation.json" in said
    assert "make repro" in said
