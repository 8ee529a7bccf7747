"""What every test gets: one thread, no model hub, no tracking outside its own folder."""

import os

os.environ.update(
    OMP_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    MPLBACKEND="Agg",
    DVC_NO_ANALYTICS="1",
)
for name in ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)
