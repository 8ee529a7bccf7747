"""The command line: one literal table, one module a command, imported only when chosen."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import warnings
from collections.abc import Callable, Sequence

from abo_vqa import interpreter, processes, refusals
from abo_vqa.errors import ComeBackLater, Reclaimed, UserError
from abo_vqa.memory import out_of_memory
from abo_vqa.terminal import output_lost, patient_streams

# name: (module, what it does). A module has `arguments(parser)` and `command(args) -> int`.
COMMANDS = {
    # the pipeline's stages, in order
    "curate": ("abo_vqa.curate", "raw archives → data/balanced.csv"),
    "generate": ("abo_vqa.generate.command", "balanced table + pictures → data/vqa.csv"),
    "split": ("abo_vqa.split", "VQA table → train and test, by groups"),
    "embed": ("abo_vqa.embed", "pictures → BLIP's vision outputs, computed once"),
    "inputs": ("abo_vqa.inputs", "what each baseline's answers depend on"),
    "baseline": ("abo_vqa.predict", "answers of one model to every row"),
    "finetune": ("abo_vqa.finetune", "LoRA on BLIP → models/adapter"),
    "evaluate": ("abo_vqa.evaluate", "predictions of every model → metrics and statistics"),
    "report": ("abo_vqa.report", "metrics → figures, report and prediction browser"),
    # beside the pipeline
    "show": ("abo_vqa.show", "the last run's results, and where the report is"),
    "doctor": ("abo_vqa.doctor.command", "what works here and what doesn't, for bug reports"),
    "fetch": ("abo_vqa.fetch", "download the real ABO archives (make abo)"),
    "audit": ("abo_vqa.audit", "check any train/test pair of tables for leaks"),
    "predict": ("abo_vqa.ask", "ask a model about one picture, or a table of questions"),
    "export": ("abo_vqa.export", "the set as Parquet with pictures, card, Croissant"),
    "choose": ("abo_vqa.choose", "score a model on an export's multiple choice"),
    "score": ("abo_vqa.score", "score any table of answers and predictions"),
    "merge": ("abo_vqa.merge", "adapter + base → one set of weights"),
    "tune": ("abo_vqa.tune", "search hyperparameters with Optuna"),
    "ui": ("abo_vqa.ui", "browse the recorded runs in MLflow (make ui)"),
    "wordnet": ("abo_vqa.metrics.wordnet", "find or fetch WordNet 3.0 and say where it is"),
    "sample": ("abo_vqa.sample.command", "rebuild the embedded sample (make sample)"),
}

LONGEST = 300  # characters of what a library says
MORE_MEMORY = (
    "Close what else uses it, or set a smaller number in the profile's batch_sizes; what is "
    "finished is kept, and the same command goes on with it."
)


def top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:{width}}{text}" for name, (_, text) in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="abo-vqa",
        description="Visual question answering on Amazon Berkeley Objects.",
        epilog="commands:\n" + "\n".join(lines) + "\n\n`abo-vqa COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (docs/experiments.md lists them)."""
    with patient_streams():
        parser = top_parser()
        if not (sys.argv[1:] if argv is None else argv):
            parser.error("which command? They are listed by `abo-vqa --help`.")
        chosen = parser.parse_args(argv)
    return speaking(chosen.command, lambda: run(chosen.command, chosen.rest))


def speaking(name: str, work: Callable[[], int]) -> int:
    """Do the work of a command, whatever the terminal is like; return its exit code."""
    # Libraries warning each other of their next versions: nothing a user of this one can mend.
    warnings.filterwarnings("ignore", category=FutureWarning)
    # PEFT imports it wherever it is installed, and it says which of its kernels this machine lacks.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with patient_streams():
        code = guarded(name, work)
        if reason := output_lost():
            code = stopped(name, f"its output is incomplete: {reason}", code or refusals.EXIT_CODE)
        return code


def guarded(name: str, work: Callable[[], int]) -> int:
    """What a user, or time, can mend ends in one message and an exit code."""
    if processes.refused():
        return 0  # it has been said, and `launch` ends with the right code
    try:
        return work()
    except (UserError, ComeBackLater, Reclaimed) as stop:
        note = processes.note_of_refusal()
        if note is not None and isinstance(stop, UserError):
            return stopped(name, str(stop), 0) if processes.refuse(note) else 0
        return stopped(name, str(stop), stop.exit_code)
    except KeyboardInterrupt:
        return stopped(name, "interrupted; run it again to go on", 130)
    except ModuleNotFoundError as error:
        if error.name not in interpreter.absent():
            raise
        reason = f"{sys.executable} lacks {error.name}.\n{interpreter.REMEDY}"
        return stopped(name, reason, UserError.exit_code)
    except Exception as error:
        if refused := refusals.refusal(error):
            return stopped(name, refusals.describe(refused), refusals.exit_code(refused))
        if out_of_memory(error):
            reason = f"out of memory ({' '.join(str(error).split())[:LONGEST]}). {MORE_MEMORY}"
            return stopped(name, reason.replace(" ()", ""), refusals.EXIT_CODE)
        raise


def run(name: str, rest: Sequence[str]) -> int:
    """Import a command's module, parse its options and run it."""
    module_name, text = COMMANDS[name]
    module = importlib.import_module(module_name)
    parser = argparse.ArgumentParser(prog=f"abo-vqa {name}", description=text)
    module.arguments(parser)
    args = parser.parse_args(rest)
    args.words = tuple(rest)  # a stage takes none: its settings are in params.yaml
    return int(module.command(args))


def stopped(name: str, reason: str, code: int) -> int:
    """Say on stderr why a command ended; return its exit code."""
    print(f"abo-vqa {name}: {reason}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
