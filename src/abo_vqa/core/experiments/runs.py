"""Runs in MLflow, to be read only: nothing is created where there is no database."""

from __future__ import annotations

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.tracking.addresses import mask_login, sqlite_file, store
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.store_checks import check_store


def find_runs(experiment: str, query: str) -> list[Run]:
    """List all runs that a query finds, page by page.

    Args:
        experiment: the experiment's name.
        query: a filter in MLflow's language.

    Raises:
        UserError: There is no database or no such experiment, or MLflow can't be reached.
    """
    uri = store()[0]
    if (file := sqlite_file(uri)) is not None and not file.exists():
        raise UserError("MLflow has no database yet")
    check_store(uri)
    try:
        client = connect()
        known = client.get_experiment_by_name(experiment)
        if known is None:
            raise UserError(f"MLflow has no experiment {experiment!r}")
        runs: list[Run] = []
        token = None
        while True:
            page = client.search_runs([known.experiment_id], query, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(mask_login(f"MLflow at {uri}: {first_line(error)}")) from error
