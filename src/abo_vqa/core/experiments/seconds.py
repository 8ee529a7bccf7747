"""How long experiments took, from MLflow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.tracking.backend import check_store, connect, sqlite_file, store

_INVOCATION = "abo_vqa.invocation"


def experiment_seconds(
    experiment: str, baselines: Collection[str]
) -> tuple[dict[tuple[str, str], float], str]:
    """Add up the seconds of all runs of each experiment, of those that were stopped as well.

    Args:
        experiment: MLflow's experiment.
        baselines: the commits that DVC's experiments start from.

    Returns:
        (name, commit) → seconds; and why some or all are missing, "" if MLflow could be read.
    """
    try:
        uri = store()[0]
        if (file := sqlite_file(uri)) is not None and not file.exists():
            return {}, "MLflow has no database yet"
        check_store(uri)
        client = connect()
        known = client.get_experiment_by_name(experiment)
        if known is None:
            return {}, f"MLflow has no experiment {experiment!r}"
        query, token = f"tags.`{_INVOCATION}` LIKE 'exp:%'", None
        seconds: dict[tuple[str, str], float] = defaultdict(float)
        while True:
            page = client.search_runs([known.experiment_id], query, page_token=token)
            for run in page:
                name, _, rest = run.data.tags[_INVOCATION].removeprefix("exp:").partition(":")
                commit = rest.partition(":")[0]
                if commit in baselines and "seconds" in run.data.metrics:
                    seconds[name, commit] += run.data.metrics["seconds"]
            token = page.token
            if not token:
                return dict(seconds), ""
    except (UserError, MlflowException, SQLAlchemyError, OSError) as error:
        return {}, first_line(error)
