"""What a report was made from: hashes, settings, versions. The same for two identical runs."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from abo_vqa.config import Config
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.paths import BALANCED, EVALUATION, METRICS, TEST, TRAIN, TRAINING, VQA

_FILES = (BALANCED, VQA, TRAIN, TEST, TRAINING, EVALUATION, METRICS)
# What fits this machine, and no result depends on but for rounding.
_MACHINE = re.compile(r"(embed|models\..*|scorers\..*)\.batch_size|compute\.device")
_PACKAGES = (
    "abo-vqa", "torch", "transformers", "peft", "open_clip_torch", "bert-score", "nltk",
    "rouge-score", "scikit-learn", "numpy", "pandas", "pillow", "matplotlib", "dvc", "mlflow",
)  # fmt: skip


def provenance(config: Config) -> dict[str, Any]:
    """Hashes of files and folders, every setting that a result depends on, library versions."""
    return {
        "hashes": hashes(),
        "params": [
            (name, value)
            for name, value in settings(config.model_dump(mode="json"))
            if not _MACHINE.fullmatch(name)
        ],
        "versions": versions(),
    }


def hashes() -> list[tuple[str, str]]:
    """MD5 of the tables and results as DVC records them; folders' hashes come from dvc.lock."""
    found = [(file.as_posix(), file_md5(file)) for file in _FILES if file.is_file()]
    folders = {
        path: md5
        for name, stage in _locked_stages().items()
        if name != "report"
        for path, md5 in _files_of(stage).items()
        if md5.endswith(".dir") and not path.startswith("src/")
    }
    return sorted([*found, *folders.items()])


def _locked_stages() -> dict[str, dict[str, Any]]:
    """The stages in dvc.lock, {} if there is none."""
    lock = Path("dvc.lock")
    if not lock.is_file():
        return {}
    stages: dict[str, dict[str, Any]] = yaml.safe_load(lock.read_text(encoding="utf-8")).get(
        "stages", {}
    )
    return stages


def _files_of(stage: Mapping[str, Any]) -> dict[str, str]:
    """What a stage of dvc.lock read and wrote: path → MD5 ("" for what has none)."""
    items = [*stage.get("deps", []), *stage.get("outs", [])]
    return {item["path"]: str(item.get("md5", "")) for item in items}


def recorded(stage: str, *files: str | Path) -> dict[str, Any] | None:
    """A stage's entry in dvc.lock if all these files are as it read or wrote them, else None."""
    entry = _locked_stages().get(stage)
    if entry is None:
        return None
    known = _files_of(entry)
    same = all(
        Path(file).is_file() and known.get(Path(file).as_posix()) == file_md5(file)
        for file in files
    )
    return entry if same else None


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
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found
