"""What a report was made from: hashes, settings, versions. The same for two identical runs."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from abo_vqa.config import Config
from abo_vqa.io import file_md5

FILES = (
    "data/balanced.csv",
    "data/vqa.csv",
    "data/train.csv",
    "data/test.csv",
    "reports/training.json",
    "reports/evaluation.json",
    "reports/metrics.json",
)
PACKAGES = (
    "abo-vqa", "torch", "transformers", "peft", "open_clip_torch", "bert-score", "nltk",
    "rouge-score", "scikit-learn", "numpy", "pandas", "pillow", "matplotlib", "dvc", "mlflow",
)  # fmt: skip


def provenance(config: Config) -> dict[str, Any]:
    """Hashes of files and folders, every setting, library versions."""
    return {
        "hashes": hashes(),
        "params": settings(config.model_dump(mode="json")),
        "versions": versions(),
    }


def hashes() -> list[tuple[str, str]]:
    """MD5 of the tables and results as DVC records them; folders' hashes come from dvc.lock."""
    found = [(name, file_md5(name)) for name in FILES if Path(name).is_file()]
    lock = Path("dvc.lock")
    if not lock.is_file():
        return found
    stages = yaml.safe_load(lock.read_text(encoding="utf-8")).get("stages", {})
    folders = {
        item["path"]: item["md5"]
        for name, stage in stages.items()
        if name != "report"
        for item in [*stage.get("deps", []), *stage.get("outs", [])]
        if str(item.get("md5", "")).endswith(".dir") and not item["path"].startswith("src/")
    }
    return sorted([*found, *folders.items()])


def recorded(stage: str, *files: str | Path) -> dict[str, Any] | None:
    """A stage's entry in dvc.lock if all these files are as it read or wrote them, else None."""
    lock = Path("dvc.lock")
    if not lock.is_file():
        return None
    stages = yaml.safe_load(lock.read_text(encoding="utf-8")).get("stages", {})
    entry: dict[str, Any] = stages.get(stage, {})
    known = {i["path"]: i.get("md5") for i in [*entry.get("deps", []), *entry.get("outs", [])]}
    same = all(
        Path(file).is_file() and known.get(Path(file).as_posix()) == file_md5(file)
        for file in files
    )
    return entry if entry and same else None


def settings(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The whole configuration as `lora.r`, `16`."""
    leaves: list[tuple[str, str]] = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            leaves += settings(item, f"{prefix}{key}.")
        else:
            shown = ", ".join(map(str, item)) if isinstance(item, list) else item
            leaves.append((f"{prefix}{key}", "null" if shown is None else str(shown)))
    return leaves


def versions() -> list[tuple[str, str]]:
    """Versions of Python and of the libraries that results depend on."""
    found = [("python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found
