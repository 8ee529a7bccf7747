"""`python -m abo_vqa.tracking`: create the database before anything runs side by side (`make
setup`), mend a moved checkout's, and record what an earlier run couldn't."""

import sys

from abo_vqa.cli import speaking
from abo_vqa.config import load_config
from abo_vqa.tracking.backend import prepare, store
from abo_vqa.tracking.outbox import deliver_pending


def work() -> int:
    experiment = load_config().tracking.experiment
    print(f"MLflow experiment {experiment} (id {prepare(experiment)}) at {store()[0]}")
    deliver_pending()  # says itself what still has to wait
    return 0


sys.exit(speaking("tracking", work))
