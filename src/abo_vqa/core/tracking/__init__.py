"""MLflow: a parent run per invocation, a child per executed stage.

`backend` says where, `runs` what a stage or a trial records, `outbox` how it gets there without the
work waiting for it; `registry` holds the registered model (whose code is `abo_vqa.core.registered_model`).
"""

from abo_vqa.core.tracking.backend import prepare, store
from abo_vqa.core.tracking.runs import Tracker, track, track_trial

__all__ = ["Tracker", "prepare", "store", "track", "track_trial"]
