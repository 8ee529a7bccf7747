"""`abo-vqa tracking`: create MLflow's database, or repair it after a move; deliver records.

`make setup` runs it, since several processes can't create the database at the same time.
"""

from __future__ import annotations

import argparse

from abo_vqa.core.config import load_config
from abo_vqa.core.tracking.backend import prepare, store
from abo_vqa.core.tracking.outbox import deliver_pending


def command(_args: argparse.Namespace) -> int:
    """Create the experiment, and send what has to wait.

    Returns:
        The exit code.
    """
    experiment = load_config().tracking.experiment
    print(f"MLflow experiment {experiment} (id {prepare(experiment)}) at {store()[0]}")
    deliver_pending()  # says itself what still has to wait
    return 0
