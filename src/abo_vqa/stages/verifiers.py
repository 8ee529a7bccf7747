"""Stage `verifiers`: what each verifier's answers depend on.

As in the stage `inputs`, DVC then asks the verifiers again when one of them has changed, and not
when another model of the profile has.
"""

from __future__ import annotations

import argparse

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.json_files import write_json
from abo_vqa.core.paths import VERIFIERS
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.models.answering.dependencies import verifier_inputs


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write data/verifiers.json.

    Args:
        config: the settings.
    """
    names = config.verify.models
    write_json({name: verifier_inputs(name, config) for name in names}, VERIFIERS)
    return Summary(f"what {len(names)} verifier(s) depend on → {VERIFIERS}")


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    print(execute("verifiers", run, load_config()))
    return 0
