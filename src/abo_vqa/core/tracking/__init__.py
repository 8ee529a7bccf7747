"""MLflow: a parent run per invocation, a child run per executed stage.

`backend` knows where runs are recorded, `runs` what a stage or a trial records, `outbox` how that
gets there without the work waiting for it; `registry` keeps the registered model.
"""

import os

REQUEST_TIMEOUT_S = "15"

# Read by MLflow when it is imported, or at each request. What the user has set stays.
_ENVIRONMENT = {
    # By default MLflow reports its use to its makers: not from a pipeline that runs offline.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # By default each request waits four minutes for a dead server. The outbox tries again anyway.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": REQUEST_TIMEOUT_S,
    # A line with the server's address after each run, its password included.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Read by PostgreSQL's own library: else a host that answers nothing takes two minutes.
    "PGCONNECT_TIMEOUT": "5",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
