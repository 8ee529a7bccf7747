"""The command line: answers quickly, and says one thing when the user made a mistake."""

import importlib
import subprocess
import sys
from importlib import util

import pytest

from abo_vqa import __version__
from abo_vqa.cli import (
    COMMANDS,
    HEADINGS,
    OWN_TABLES,
    WITHOUT_OPTIONS,
    _run,
    main,
    run_reporting_errors,
)
from tests.support import ROOT

HEAVY = ("torch", "transformers", "mlflow", "pandas", "numpy", "matplotlib", "sklearn", "dvc")


def run_apart(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command that stops before its work; the last line of stdout lists heavy imports."""
    code = (
        "import sys; from abo_vqa.cli import main\n"
        f"try: main({words})\n"
        f"finally: print('LOADED', [m for m in {HEAVY} if m in sys.modules])"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_imports_nothing_heavy():
    done = run_apart(["--help"])
    assert "curate" in done.stdout
    assert "LOADED []" in done.stdout


@pytest.mark.parametrize("name", sorted(WITHOUT_OPTIONS))
def test_a_word_without_options_answers_before_its_module_is_imported(name, capsys):
    modules = set(sys.modules)
    for words, code in ((["--help"], 0), (["--wrong"], 2)):
        with pytest.raises(SystemExit) as stop:
            _run(name, words)
        assert stop.value.code == code
    assert f"usage: abo-vqa {name}" in capsys.readouterr().out
    assert set(sys.modules) == modules


def test_finetune_refuses_an_option_without_torch():
    done = run_apart(["finetune", "--epochs", "3"])
    assert "LOADED []" in done.stdout
    assert "unrecognized arguments: --epochs 3" in done.stderr


@pytest.mark.parametrize("name", ["score", "merge", "tune"])
def test_help_doesnt_wait_for_torch(name):
    loaded = run_apart([name, "--help"]).stdout.splitlines()[-1]
    assert not any(module in loaded for module in ("torch", "mlflow", "matplotlib"))


@pytest.mark.parametrize("name", COMMANDS)
def test_it_is_known_which_words_have_options(name):
    module = importlib.import_module(OWN_TABLES.get(name, COMMANDS[name][0]))
    assert hasattr(module, "arguments") == (name not in WITHOUT_OPTIONS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_explains_itself(name, capsys):
    assert util.find_spec(COMMANDS[name][0]), COMMANDS[name][0]
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"abo-vqa {name}" in capsys.readouterr().out


def test_bad_settings_exit_2_with_one_message_and_no_traceback(tmp_path):
    (tmp_path / "params.yaml").write_text("profile: sample\nsede: 1\nlora: {r: 0}\n")
    profiles = tmp_path / "conf" / "profiles"
    profiles.mkdir(parents=True)
    (profiles / "sample.yaml").write_text("defaults: {}\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "src" / "abo_vqa"), "curate"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "sede: unknown setting; did you mean seed?" in done.stderr
    assert "lora.r: found 0" in done.stderr
    assert "Traceback" not in done.stderr


def test_under_dvc_a_mistake_comes_with_the_way_back(tmp_path, monkeypatch, capsys):
    """DVC removes a stage's outputs before it starts it."""
    monkeypatch.chdir(tmp_path)
    assert main(["curate"]) == 2
    assert "dvc checkout" not in capsys.readouterr().err
    monkeypatch.setenv("DVC_STAGE", "dvc.yaml:curate")
    assert main(["curate"]) == 2
    said = capsys.readouterr().err
    assert "`dvc checkout`, and `git restore`" in said
    assert "that `git status` shows as deleted" in said


def test_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["traim"])
    assert stop.value.code == 2
    assert "traim" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["split", "--group", "near-duplicate"], "--vqa FILE and --out DIR must be given together"),
        (["split", "--columns", "image_path=a"], "Without any, the stage splits data/vqa.csv"),
        (["curate", "--no-pictures"], "--raw DIR and --out FILE must be given together"),
        (["generate", "--sample", "5"], "--sample belongs to --review"),
        (["generate", "--count-tokens"], "--count-tokens belongs to --dry-run"),
    ],
)
def test_options_that_a_stage_would_ignore_are_refused(words, said, capsys):
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_it_tells_its_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"abo-vqa {__version__}\n"


def test_without_a_command_the_help_is_named(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "no command given; `abo-vqa --help` lists them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "hint"), [("asc", "did you mean ask?"), ("xyzzy", "`abo-vqa --help` lists them.")]
)
def test_an_unknown_command_has_a_hint(name, hint, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name])
    assert stop.value.code == 2
    assert f"no command is called '{name}'; {hint}" in capsys.readouterr().err


def test_help_lists_every_command_below_a_heading(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out.partition("\n\nthe pipeline")[2]
    blocks = [block.splitlines() for block in f"the pipeline{listed}".split("\n\n")[:-1]]
    assert [block[0] for block in blocks] == [f"{heading}:" for heading in HEADINGS.values()]
    assert [line.split()[0] for block in blocks for line in block[1:]] == list(COMMANDS)


def test_memory_that_runs_out_is_one_message(capsys):
    def full():
        raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")

    assert run_reporting_errors("evaluate", full) == 74
    said = capsys.readouterr().err
    assert said.startswith("abo-vqa evaluate: out of memory (CUDA error: out of memory). Stop")
    assert len(said.splitlines()) == 1

    def empty():
        raise MemoryError

    assert run_reporting_errors("evaluate", empty) == 74
    assert capsys.readouterr().err.startswith(
        "abo-vqa evaluate: out of memory. Stop other programs"
    )


def test_other_errors_keep_their_traceback():
    def wrong():
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        run_reporting_errors("evaluate", wrong)
