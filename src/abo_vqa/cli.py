"""The command line: a table of commands, each a module that is imported only when chosen."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from types import ModuleType
from typing import NoReturn

from abo_vqa import __version__
from abo_vqa.core import interpreter, system_errors
from abo_vqa.core.entry import run_process
from abo_vqa.core.errors import (
    AboVqaError,
    RetryLaterError,
    TerminatedError,
    UserError,
    first_line,
)
from abo_vqa.core.memory import out_of_memory
from abo_vqa.core.terminal import non_raising_streams, output_lost

# name: (module, what it does). A module has `command(args) -> int`, and `arguments(parser)` unless
# the name is in `WITHOUT_OPTIONS`.
COMMANDS = {
    # the pipeline, in order
    "curate": ("abo_vqa.stages.curate", "raw archives → data/balanced.csv"),
    "generate": ("abo_vqa.stages.generate", "balanced table + images → data/generated.csv"),
    "vectors": ("abo_vqa.stages.vectors", "images → one vector each, to tell which look alike"),
    "verifiers": ("abo_vqa.stages.verifiers", "what each verifier's answers depend on"),
    "opinions": ("abo_vqa.stages.opinions", "the verifiers' answers → data/opinions.csv"),
    "verify": ("abo_vqa.stages.verify", "what the opinions say of the answers → data/vqa.csv"),
    "split": ("abo_vqa.stages.split", "VQA table → train and test, by groups"),
    "embed": ("abo_vqa.stages.embed", "images → a model's vision outputs, computed once"),
    "inputs": ("abo_vqa.stages.inputs", "what each baseline's answers depend on"),
    "baseline": ("abo_vqa.stages.baseline", "answers of one model to every row"),
    "finetune": ("abo_vqa.stages.finetune", "LoRA on lora.model → models/adapter"),
    "predict": ("abo_vqa.stages.predict", "answers of the fine-tuned model to the test rows"),
    "evaluate": ("abo_vqa.stages.evaluate", "predictions of every model → metrics and statistics"),
    "report": ("abo_vqa.stages.report", "metrics → figures, report and prediction browser"),
    # results
    "show": ("abo_vqa.commands.show", "the last run's results, and where the report is"),
    "changes": ("abo_vqa.commands.changes", "settings, accuracies and answers against a commit"),
    "sweep": ("abo_vqa.commands.sweep", "compare all experiments, with the noise of seeds"),
    "runs": ("abo_vqa.commands.runs", "which run made a file, and which files a run made"),
    "ui": ("abo_vqa.commands.ui", "browse the recorded runs in MLflow (make ui)"),
    # models
    "ask": ("abo_vqa.commands.ask", "ask a model about one image, or a table of questions"),
    "serve": ("abo_vqa.commands.serve", "serve a model over HTTP"),
    "benchmark": ("abo_vqa.commands.benchmark", "models on any table of questions and answers"),
    "choose": ("abo_vqa.commands.choose", "score a model on an export's multiple choice"),
    "tune": ("abo_vqa.commands.tune", "search hyperparameters with Optuna"),
    "seeds": ("abo_vqa.commands.seeds", "train the same settings with several seeds"),
    "merge": ("abo_vqa.commands.merge", "adapter + base → one set of weights"),
    # tables
    "audit": ("abo_vqa.commands.audit", "check any train/test pair of tables for leaks"),
    "agreement": ("abo_vqa.commands.agreement", "how far reviewers agree, which answers are wrong"),
    "suspects": ("abo_vqa.commands.suspects", "which answers of the set are probably wrong"),
    "score": ("abo_vqa.commands.score", "score any table of answers and predictions"),
    "export": ("abo_vqa.commands.export", "the set as Parquet, with data card and Croissant"),
    # set-up
    "doctor": ("abo_vqa.commands.doctor.command", "check machine, settings, weights and services"),
    "fetch": ("abo_vqa.commands.fetch", "download the real ABO archives (make abo)"),
    "session": ("abo_vqa.commands.session", "save work elsewhere, restore it in a new clone"),
    "profiles": ("abo_vqa.commands.profiles", "rewrite the profiles that extend another one"),
    "tracking": ("abo_vqa.commands.tracking", "set up MLflow's database, deliver pending records"),
    "wordnet": ("abo_vqa.commands.wordnet", "find or unpack WordNet 3.0 and say where it is"),
}

# The headings of `abo-vqa --help`, by the first command below each.
HEADINGS = {
    "curate": "the pipeline, in order",
    "show": "results",
    "ask": "models",
    "audit": "tables of questions and answers",
    "doctor": "set-up",
}

# Their modules have no `arguments`: a wrong option, and `--help`, needn't wait for the import.
WITHOUT_OPTIONS = {
    "evaluate",
    "finetune",
    "inputs",
    "predict",
    "profiles",
    "tracking",
    "verifiers",
    "verify",
    "wordnet",
}

# With options, these names run a command on your own tables: the three stages have no options,
# since their settings are in params.yaml.
OWN_TABLES = {
    "curate": "abo_vqa.commands.curate",
    "generate": "abo_vqa.commands.generate",
    "split": "abo_vqa.commands.split",
}

_DVC_REMOVED = (
    "\nDVC removed this stage's outputs before it started; its next run makes them again. If a "
    "changed setting is at fault, undoing it, `dvc checkout`, and `git restore` for the files that "
    "`git status` shows as deleted bring the last ones back. `abo-vqa doctor --quick` checks all "
    "settings without running anything."
)
_MORE_MEMORY = (
    "Stop other programs that use this memory, and run the same command again; "
    "finished work is kept."
)


def _command_name(text: str) -> str:
    """Return the command of that name.

    Raises:
        argparse.ArgumentTypeError: there is none.
    """
    if text in COMMANDS:
        return text
    close = get_close_matches(text, COMMANDS, n=1)
    hint = f"did you mean {close[0]}?" if close else "`abo-vqa --help` lists them."
    raise argparse.ArgumentTypeError(f"no command is called {text!r}; {hint}")


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS)) + 2
    lines: list[str] = []
    for name, (_, text) in COMMANDS.items():
        if heading := HEADINGS.get(name):
            lines += ["", f"{heading}:"]
        lines.append(f"  {name:{width}}{text}")
    parser = argparse.ArgumentParser(
        prog="abo-vqa",
        description="Visual question answering on Amazon Berkeley Objects.",
        epilog="\n".join(lines).lstrip() + "\n\n`abo-vqa COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"abo-vqa {__version__}")
    parser.add_argument("command", type=_command_name, metavar="COMMAND")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `abo-vqa`; None for this process's.

    Returns:
        The exit code (docs/experiments.md lists them).
    """
    with non_raising_streams():
        parser = _top_parser()
        if not (sys.argv[1:] if argv is None else argv):
            parser.error("no command given; `abo-vqa --help` lists them.")
        chosen = parser.parse_args(argv)
        name = _resolve_alias(chosen.command, chosen.rest)
    return run_with_safe_output(name, lambda: _run(name, chosen.rest))


def _resolve_alias(name: str, rest: Sequence[str]) -> str:
    """Return the command that a name stands for: until 0.2, `predict` with options was `ask`."""
    if name == "predict" and set(rest) - {"-h", "--help"}:
        print(
            "abo-vqa predict: with options, this command is now called `abo-vqa ask`.",
            file=sys.stderr,
        )
        return "ask"
    return name


def run_as_process() -> NoReturn:
    """Run one command as a process of its own: the installed `abo-vqa`."""
    run_process(main)


def run_with_safe_output(name: str, work: Callable[[], int]) -> int:
    """Run a command so that no state of the terminal makes it fail.

    Args:
        name: the command.
        work: what it does; returns the exit code.

    Returns:
        The exit code.
    """
    # Deprecation warnings of libraries: users can't act on them.
    warnings.filterwarnings("ignore", category=FutureWarning)
    # PEFT imports it wherever it is installed, and it lists the kernels that this machine lacks.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with non_raising_streams():
        code = run_reporting_errors(name, work)
        if reason := output_lost():
            code = _report(
                name, f"its output is incomplete: {reason}", code or system_errors.EXIT_CODE
            )
        return code


def run_reporting_errors(name: str, work: Callable[[], int]) -> int:
    """Run a command; a problem that the user, or time, can solve becomes one message.

    Args:
        name: the command.
        work: what it does; returns the exit code.

    Returns:
        The exit code.
    """
    try:
        return work()
    except KeyboardInterrupt:
        return _report(name, "interrupted; run it again to continue", 130)
    except (TerminatedError, RetryLaterError) as stop:
        return _report(name, str(stop), stop.exit_code)
    except Exception as error:
        explained = _explain_error(error)
        if explained is None:
            raise
        return _report_error(name, *explained)


def _explain_error(error: Exception) -> tuple[str, int] | None:
    """Return the message about a problem that a user can solve, and the exit code; else None."""
    if isinstance(error, AboVqaError) and not isinstance(error, OSError):
        return str(error), error.exit_code
    if isinstance(error, ModuleNotFoundError) and error.name in interpreter.missing_packages():
        reason = f"{sys.executable} lacks {error.name}.\n{interpreter.REMEDY}"
        return reason, UserError.exit_code
    if refused := system_errors.find_os_error(error):
        return system_errors.describe_system_error(refused), system_errors.exit_code(refused)
    if out_of_memory(error):
        detail = f" ({first_line(error)})" if str(error) else ""
        return f"out of memory{detail}. {_MORE_MEMORY}", system_errors.EXIT_CODE
    return None


def _report_error(name: str, reason: str, code: int) -> int:
    """Report a problem that ends a command, and return the exit code."""
    if code == UserError.exit_code and os.environ.get("DVC_STAGE"):
        reason += _DVC_REMOVED
    return _report(name, reason, code)


def command_parser(
    name: str, *, own_tables: bool = False
) -> tuple[argparse.ArgumentParser, ModuleType]:
    """Import a command's module and return the parser of its options, and the module.

    Args:
        name: the command.
        own_tables: the command on your own tables, where a stage has one of its name.
    """
    module = importlib.import_module(_module_name(name, own_tables))
    parser = _bare_parser(name)
    if hasattr(module, "arguments"):
        module.arguments(parser)
    return parser, module


def _module_name(name: str, own_tables: bool) -> str:
    default = COMMANDS[name][0]
    return OWN_TABLES.get(name, default) if own_tables else default


def _bare_parser(name: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"abo-vqa {name}", description=COMMANDS[name][1])


def _run(name: str, rest: Sequence[str]) -> int:
    """Import a command's module, parse its options and run it."""
    if name in WITHOUT_OPTIONS:
        _bare_parser(name).parse_args(rest)
    parser, module = command_parser(name, own_tables=bool(rest))
    args = parser.parse_args(rest)
    return int(module.command(args))


def _report(name: str, reason: str, code: int) -> int:
    """Print on stderr why a command ended, and return its exit code."""
    print(f"abo-vqa {name}: {reason}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
