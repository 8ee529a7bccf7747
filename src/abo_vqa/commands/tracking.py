"""`abo-vqa tracking`: create MLflow's database, or repair it after a move; deliver records.

The registered model's aliases `champion` and `challenger` become those of the active profile.

`make setup` runs it, since several processes can't create the database at the same time.
"""

from __future__ import annotations

import argparse

from abo_vqa.core.config import load_config
from abo_vqa.core.tracking.addresses import mask_login, store
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.champion import follow_profile
from abo_vqa.core.tracking.experiment import prepare
from abo_vqa.core.tracking.outbox import deliver_pending


def command(_args: argparse.Namespace) -> int:
    """Create the experiment, and send what has to wait.

    Returns:
        The exit code.
    """
    config = load_config()
    experiment = config.tracking.experiment
    number, address = prepare(experiment), mask_login(store()[0])
    print(f"MLflow experiment {experiment} (id {number}) at {address}")
    follow_profile(connect(), config.tracking.model_name, config.profile)
    deliver_pending()  # says itself what still has to wait
    return 0
