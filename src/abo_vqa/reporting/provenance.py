"""What a report was made from: hashes, settings, versions. The same for two identical runs."""

from __future__ import annotations

import json
import platform
import re
import shlex
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from abo_vqa.core.config import Config
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.nested import flatten
from abo_vqa.core.paths import BALANCED, EVALUATION, METRICS, TEST, TRAIN, TRAINING, VQA

_FILES = (BALANCED, VQA, TRAIN, TEST, TRAINING, EVALUATION, METRICS)
# Chosen for a machine, or for a server: results depend on them only by rounding, or not at all.
_MACHINE_SETTINGS = re.compile(
    r"(embed|models\..*|scorers\..*)\.batch_size|embed\.store|serve\..*"
    r"|compute\.(device|engine|workers)"
)
_PACKAGES = (
    "abo-vqa", "torch", "transformers", "peft", "open_clip_torch", "bert-score", "nltk",
    "rouge-score", "scikit-learn", "numpy", "pandas", "pillow", "matplotlib", "dvc", "mlflow",
)  # fmt: skip


def provenance(config: Config, hashes: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what the last section of the report prints.

    Args:
        config: the settings.
        hashes: MD5 by name of what a benchmark read; None for the pipeline's files.

    Returns:
        `hashes` of files and folders, `metrics_md5` (of reports/metrics.json, None without it),
        `runs_command` (how to find the runs with these metrics, None without them), `settings`
        that results depend on, and `versions` of libraries.
    """
    pairs = artifact_hashes() if hashes is None else sorted(hashes.items())
    metrics_md5 = dict(pairs).get(METRICS.as_posix())
    return {
        "hashes": pairs,
        "metrics_md5": metrics_md5,
        "runs_command": metrics_md5 and _runs_command(config.tracking.experiment, metrics_md5),
        "settings": [
            (name, value)
            for name, value in settings_rows(config.model_dump(mode="json"))
            if not _MACHINE_SETTINGS.fullmatch(name)
        ],
        "versions": library_versions(),
    }


def _runs_command(experiment: str, metrics_md5: str) -> str:
    """Return a shell command that lists an experiment's runs with these metrics."""
    query = f'tags.`dvc.out.{METRICS.as_posix()}` = "{metrics_md5}"'
    # JSON's strings are Python's; their double quotes need no escapes between the shell's single.
    code = (
        f"import mlflow; print(mlflow.search_runs(experiment_names={json.dumps([experiment])},\n"
        f'    filter_string={json.dumps(query)})[["run_id", "tags.mlflow.runName"]])'
    )
    return f"python -c {shlex.quote(code)}"


def artifact_hashes() -> list[tuple[str, str]]:
    """Return the MD5 of tables, results and folders, as DVC records them.

    Tables and results are hashed here, other folders' hashes come from dvc.lock.
    """
    files = {file.as_posix(): file_md5(file) for file in _FILES if file.exists()}
    folders = {
        path: md5
        for name, stage in _locked_stages().items()
        if name != "report"
        for path, md5 in _locked_hashes(stage).items()
        if md5.endswith(".dir") and not path.startswith("src/")
    }
    return sorted((folders | files).items())


def _locked_stages() -> dict[str, dict[str, Any]]:
    """Return the stages in dvc.lock, {} if there is none."""
    lock = Path("dvc.lock")
    if not lock.is_file():
        return {}
    content = yaml.load(lock.read_text(encoding="utf-8"), Loader=_YamlLoader)
    stages: dict[str, dict[str, Any]] = content.get("stages", {})
    return stages


_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times faster


def _locked_hashes(stage: Mapping[str, Any]) -> dict[str, str]:
    """Return path → MD5 ("" if none) of what a stage in dvc.lock read and wrote."""
    items = [*stage.get("deps", []), *stage.get("outs", [])]
    return {item["path"]: str(item.get("md5", "")) for item in items}


def matching_lock_entry(stage: str, *files: str | Path) -> dict[str, Any] | None:
    """Return a stage's entry in dvc.lock if all these files are as it read or wrote them."""
    entry = _locked_stages().get(stage)
    if entry is None:
        return None
    known = _locked_hashes(entry)
    same = all(
        Path(file).exists() and known.get(Path(file).as_posix()) == file_md5(file) for file in files
    )
    return entry if same else None


def settings_rows(value: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the whole configuration as pairs like `lora.r`, `16`."""
    rows = []
    for name, leaf in flatten(value).items():
        text = ", ".join(map(str, leaf)) if isinstance(leaf, list) else leaf
        rows.append((name, "null" if text is None else str(text)))
    return rows


def library_versions() -> list[tuple[str, str]]:
    """Return the versions of Python and of the libraries that results depend on."""
    versions = [("python", platform.python_version())]
    for name in _PACKAGES:
        try:
            versions.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return versions
