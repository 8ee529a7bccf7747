"""`abo-vqa doctor`: what works here, what doesn't, and what to do; for bug reports as well.

abo-vqa doctor              # a minute on the sample
abo-vqa doctor --quick      # without trying the models
abo-vqa doctor --model llava --json report.json
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.commands.doctor import (
    card_memory,
    endpoints,
    engine,
    files,
    gpu,
    machine,
    model_settings,
    remotes,
    services,
    stores,
    weights,
)
from abo_vqa.commands.doctor.findings import Check, Checkout, Finding, examine
from abo_vqa.core.errors import UserError
from abo_vqa.core.files import refuse_unwritable
from abo_vqa.core.json_files import write_json
from abo_vqa.core.scratch import project_root

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

_EXIT_PROBLEM = UserError.exit_code  # exit code: at least one check found a problem
_GROUPS: dict[str, list[tuple[str, Check]]] = {
    "machine": [
        ("python", machine.python),
        ("libraries", machine.libraries),
        ("processor", machine.processor),
        ("memory", machine.memory),
        ("disk", machine.disk),
    ],
    "GPU": [
        ("driver", gpu.driver),
        ("torch", gpu.build),
        ("cards", gpu.cards),
        ("device", gpu.device),
        ("dtype", gpu.dtype),
        ("gpu memory", card_memory.card_memory),
    ],
    "files": [
        ("settings", files.settings),
        ("git", files.commit),
        ("archives", files.archives),
        ("wordnet", files.wordnet),
    ],
    "weights": [
        ("model settings", model_settings.model_settings),
        ("weights", weights.weights),
    ],
    "services": [
        ("api key", services.keys),
        ("endpoints", endpoints.endpoints),
        ("remotes", remotes.remotes),
        ("tracking", stores.tracking),
        ("engine", engine.engine),
        ("model hub", services.hub),
    ],
}


def findings(case: Checkout, quick: bool) -> Iterator[tuple[str, Finding]]:
    """Run all checks.

    Args:
        case: the checkout.
        quick: leave out the models.

    Yields:
        Each finding with its group, as soon as it is known.
    """
    for group, listed in _GROUPS.items():
        for name, check in listed:
            for finding in examine(name, check, case):
                yield group, finding
    if quick:
        return
    for finding in _model_findings(case):
        yield "models", finding


def _model_findings(case: Checkout) -> Iterator[Finding]:
    """Run the checks of models."""
    model_checks: list[tuple[str, Check]] = []

    def choose(case: Checkout) -> Iterator[Finding]:
        from abo_vqa.commands.doctor.models import checks

        model_checks.extend(checks(case))
        yield from ()

    yield from examine("models", choose, case)
    for name, check in model_checks:
        yield from examine(name, check, case)


def _diagnose(names: Sequence[str]) -> Checkout:
    """Describe the checkout in the current folder."""
    from abo_vqa.core.config import load_config
    from abo_vqa.core.stage import pin_threads

    config: Config | None = None
    fault = ""
    try:
        config = load_config()
        pin_threads(config.threads)
    except UserError as error:
        fault = str(error)
    except Exception as error:  # a package that is missing, a file that can't be read
        fault = f"{type(error).__name__}: {error}"
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    os.environ["HF_HUB_OFFLINE"] = "1"  # models are tried with what is here; nothing is fetched
    return Checkout(Path.cwd(), config, fault, tuple(names), offline)


def _format_finding(finding: Finding) -> str:
    """Format a finding, with its advice indented beneath."""
    text = f"  {finding.state:8} {finding.name:14} {finding.found}"
    return f"{text}\n{'':26}-> {finding.advice}" if finding.advice else text


def _count_states(states: Counter[str]) -> str:
    """Count the findings of each state, in words."""
    return f"{states['ok']} ok, {states['warning']} warning(s), {states['problem']} problem(s)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "exit code: 0, also with warnings; 2 if there is a problem.\n"
        "contacts: DVC's remotes, the servers in MLFLOW_TRACKING_URI and at a base_url of the\n"
        "settings, and the model hub if weights are missing, each for seconds; fetches nothing.\n"
        "writes: one small file each into the default remote and among a tracking server's\n"
        "artifacts, removed at once. Secrets are never printed."
    )
    parser.add_argument("--quick", action="store_true", help="don't try the models")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="try this one only, e.g. blip2, or clip for any of its variants; may be repeated "
        "(default: each of baselines.models)",
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the findings as JSON, to a file or, without a name, instead of the text",
    )


def command(args: argparse.Namespace) -> int:
    """Run the checks, and print or write the findings.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    if args.quick and args.model:
        raise UserError("--quick tries no model; leave out --model.")
    file = None if args.json in (None, "-") else Path(args.json).absolute()
    if file is not None:
        _check_writable(Path(args.json))
    os.chdir(project_root())
    case = _diagnose(args.model)
    results: list[tuple[str, Finding]] = []
    group = ""
    for group_now, one in findings(case, args.quick):
        results.append((group_now, one))
        if args.json == "-":
            continue
        if group_now != group:
            group = group_now
            print(f"{'' if len(results) == 1 else chr(10)}{group}")
        print(_format_finding(one), flush=True)
    states = Counter[str](one.state for _, one in results)
    if args.json == "-":
        print(json.dumps(_report(results, states), indent=2))
    else:
        print(f"\n{_count_states(states)}")
    if file is not None:
        write_json(_report(results, states), file)
    return _EXIT_PROBLEM if states["problem"] else 0


def _check_writable(file: Path) -> None:
    """Check that the findings can be written, without making a folder.

    Raises:
        UserError: The file's folder isn't there, or a folder has the file's name.
    """
    if not file.absolute().parent.is_dir():
        raise UserError(
            f"--json {file}: there is no folder {file.parent}. Make it, or name another file."
        )
    refuse_unwritable(file, "the findings", "--json")


def _report(results: Sequence[tuple[str, Finding]], states: Counter[str]) -> dict[str, Any]:
    """Return the findings for programs."""
    return {
        "abo_vqa": metadata.version("abo-vqa"),
        "states": {state: states[state] for state in ("ok", "warning", "problem")},
        "findings": [{"group": group, **asdict(one)} for group, one in results],
    }
