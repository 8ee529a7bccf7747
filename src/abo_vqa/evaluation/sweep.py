"""All experiments of a search side by side: one row per settings, whatever the number of seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.evaluation.clusters import image_clusters
from abo_vqa.evaluation.settings_comparison import SettingsComparison, compare_settings

if TYPE_CHECKING:
    import pandas as pd

    from abo_vqa.core.experiments.collect import Experiment
    from abo_vqa.evaluation.intervals import Floats

# Settings that change no result of the fine-tuned model, and the seed, which makes no other row.
_IGNORED = (
    "lora.seed", "lora.checkpoint_minutes", "lora.keep_checkpoints", "lora.gradient_checkpointing",
    "report.", "tracking.", "compute.device", "compute.engine", "compute.workers",
    "embed.batch_size", "batch_sizes.", "baselines.",
)  # fmt: skip
_BASE = "base."
_ROW_COLUMNS = ["row_id", "image_path", "question", "answer"]
SCORE_COLUMNS = [*_ROW_COLUMNS, "accuracy"]
"""What `SweepRun.scores` has."""


@dataclass(frozen=True)
class SweepRun:
    """One experiment's results.

    Attributes:
        experiment: what DVC knows of it.
        code: a fingerprint of the code and the data that it ran on.
        seed: what training drew with.
        validation: the best epoch's accuracy on the held-out rows; None if there is none.
        test: accuracy on the test rows; likewise.
        scores: the test rows and their scores; None if they can't be read.
        seconds: how long it took; None if MLflow doesn't know.
    """

    experiment: Experiment
    code: str = ""
    seed: int | None = None
    validation: float | None = None
    test: float | None = None
    scores: pd.DataFrame | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class SweepRow:
    """The runs that have all settings but the seed in common.

    Attributes:
        name: the settings in which it differs from other rows: unique among them.
        settings: these settings.
        state: "finished", else the experiments': "running", "queued", "failed", "pruned".
        runs: one per seed.
        group: the number of the `Sweep.comparisons` that it is in; None without scores.
    """

    name: str
    settings: Mapping[str, Any]
    state: str
    runs: tuple[SweepRun, ...]
    group: int | None = None

    def mean(self, attribute: str) -> float | None:
        """Average a number over the runs that have it.

        Args:
            attribute: the name of one of `SweepRun`'s numbers.
        """
        values = self._values(attribute)
        return float(np.mean(values)) if values else None

    def sd(self, attribute: str) -> float | None:
        """Return a number's standard deviation over the runs; None for fewer than two.

        Args:
            attribute: as for `mean`.
        """
        values = self._values(attribute)
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def _values(self, attribute: str) -> list[float]:
        values = (getattr(run, attribute) for run in self.runs)
        return [value for value in values if value is not None]


@dataclass(frozen=True)
class Sweep:
    """The table.

    Attributes:
        changed: the settings that differ between rows.
        rows: the finished ones first, by test accuracy, then by validation; then the others.
        comparisons: one for each set of test rows, the one with most settings first.
        test_rows: how many rows and images each of them has.
    """

    changed: tuple[str, ...]
    rows: tuple[SweepRow, ...]
    comparisons: tuple[SettingsComparison, ...]
    test_rows: tuple[tuple[int, int], ...]


def compare_experiments(runs: Sequence[SweepRun], confidence: float) -> Sweep:
    """Put runs into rows, and compare the rows that were tested on the same questions.

    Args:
        runs: the experiments.
        confidence: of the intervals, e.g. 0.95.
    """
    changed = _changed_settings(runs)
    rows = _rows(runs, changed)
    groups: dict[str, list[SweepRow]] = defaultdict(list)
    for row in rows:
        if row.runs[0].scores is not None:
            groups[test_set_key(row.runs[0].scores)].append(row)
    ordered = sorted(groups.values(), key=lambda group: -len(group))
    comparisons, sizes = [], []
    numbers: dict[str, int] = {}
    for number, group in enumerate(ordered):
        first = group[0].runs[0].scores
        assert first is not None
        clusters = image_clusters(first)
        scores = {row.name: score_matrix(row.runs) for row in group}
        comparisons.append(compare_settings(scores, clusters, confidence))
        sizes.append((len(first), int(clusters.max()) + 1))
        numbers |= dict.fromkeys(scores, number)
    rows = [
        SweepRow(row.name, row.settings, row.state, row.runs, numbers.get(row.name)) for row in rows
    ]
    return Sweep(changed, tuple(sorted(rows, key=_order)), tuple(comparisons), tuple(sizes))


def _order(row: SweepRow) -> tuple[float, ...]:
    """Finished rows by comparison, test and validation, then the others by state."""
    states = ("finished", "running", "queued", "failed", "pruned")
    group = float("inf") if row.group is None else row.group
    return (
        states.index(row.state),
        group,
        -(row.mean("test") or 0.0),
        -(row.mean("validation") or 0.0),
    )


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that tell rows apart; 16 and 16.0 are the same.

    Of the profile's models only the fine-tuned one counts, as `base.<setting>`.
    """
    base = f"models.{settings.get('lora.model')}."
    compared = {}
    for key, value in settings.items():
        if key.startswith(_IGNORED) or (key.startswith("models.") and not key.startswith(base)):
            continue
        name = f"{_BASE}{key.removeprefix(base)}" if key.startswith(base) else key
        compared[name] = float(value) if type(value) is int else value
    return compared


def _changed_settings(runs: Iterable[SweepRun]) -> tuple[str, ...]:
    """The settings that aren't the same in all experiments."""
    values: dict[str, set[str]] = defaultdict(set)
    settings = [_compared(run.experiment.settings) for run in runs if run.experiment.settings]
    for key in dict.fromkeys(key for each in settings for key in each):
        values[key] = {repr(each.get(key)) for each in settings}
    return tuple(
        key
        for key, different in values.items()
        if len(different) > 1 and (not key.startswith(_BASE) or _differs_in_a_model(key, settings))
    )


def _differs_in_a_model(key: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a base's setting has several values with one `lora.model`, which tells the rest."""
    values: dict[str, set[str]] = defaultdict(set)
    for each in settings:
        values[str(each.get("lora.model"))].add(repr(each.get(key)))
    return any(len(different) > 1 for different in values.values())


def _rows(runs: Sequence[SweepRun], changed: Sequence[str]) -> list[SweepRow]:
    """Group the runs; a seed that was trained twice with the same settings counts once."""
    groups: dict[tuple[str, ...], dict[Any, SweepRun]] = defaultdict(dict)
    for run in runs:
        state = "finished" if run.experiment.finished else str(run.experiment.state)
        # Runs without scores, or of other test rows, can't be averaged with those that have some.
        tested = test_set_key(run.scores) if run.scores is not None else ""
        same = fingerprint([_compared(run.experiment.settings), run.code])
        seed = run.experiment.name if run.seed is None else run.seed
        groups[state, same, tested].setdefault(seed, run)
    rows, names = [], set[str]()
    for (state, *_), by_seed in groups.items():
        members = tuple(sorted(by_seed.values(), key=lambda run: run.seed or 0))
        settings = _compared(members[0].experiment.settings)
        values = {key: settings.get(key) for key in changed}
        name = ", ".join(f"{key}={_text(value)}" for key, value in values.items()) or "all settings"
        if state != "finished":
            name += f" ({state})"
        if name in names:
            name += f" [{members[0].experiment.name}]"
        names.add(name)
        rows.append(SweepRow(name, values, state, members))
    return rows


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_set_key(scores: pd.DataFrame) -> str:
    """Return a fingerprint of the questions, in their order.

    Args:
        scores: with the columns of `SCORE_COLUMNS`.
    """
    return fingerprint(scores[_ROW_COLUMNS].astype(str).to_numpy().tolist())


def score_matrix(runs: Sequence[SweepRun]) -> Floats:
    """Return [n, S], the accuracy of each test row in each run; runs without scores are left out.

    Args:
        runs: all with the same test rows.
    """
    tables = [run.scores for run in runs if run.scores is not None]
    return np.column_stack([table["accuracy"].to_numpy(dtype=float) for table in tables])


def seed_noise(sweep: Sweep) -> tuple[float, int, int] | None:
    """Return the standard deviation of accuracies between seeds, its runs and degrees of freedom.

    Args:
        sweep: its first comparison counts.

    Returns:
        None if no settings were trained with several seeds.
    """
    if not sweep.comparisons or sweep.comparisons[0].seed_variance is None:
        return None
    variance = sweep.comparisons[0].seed_variance
    several = [s for s in sweep.comparisons[0].scores.values() if s.variance is not None]
    return variance.total**0.5, sum(len(s.accuracies) for s in several), variance.freedom
