"""How long experiments took, from MLflow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.experiments.runs import find_runs

_INVOCATION = "abo_vqa.invocation"


def experiment_seconds(
    experiment: str, baselines: Collection[str]
) -> tuple[dict[tuple[str, str], float], str]:
    """Add up the seconds of all runs of each experiment, of those that were stopped as well.

    Args:
        experiment: MLflow's experiment.
        baselines: the commits that DVC's experiments start from.

    Returns:
        (name, commit) → seconds; and why they are missing, "" if MLflow could be read.
    """
    try:
        runs = find_runs(experiment, f"tags.`{_INVOCATION}` LIKE 'exp:%'")
    except UserError as error:
        return {}, first_line(error)
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for run in runs:
        name, _, rest = run.data.tags[_INVOCATION].removeprefix("exp:").partition(":")
        commit = rest.partition(":")[0]
        if commit in baselines:
            seconds[name, commit] += run.data.metrics.get("seconds", 0.0)
    return dict(seconds), ""
