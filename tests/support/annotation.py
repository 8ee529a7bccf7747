"""A small workspace for generation: archives, a balanced table, params.yaml with changes."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from abo_vqa.annotate.model_run import annotations_folder
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.service_config import GenerateConfig
from abo_vqa.remote.journal import JournalEntry, read_journal
from tests.support import ROOT
from tests.support.archives import jpeg, listing, write_shop

REPOSITORY = ROOT
KEY = "AIzaSyTestKeyThatMustNeverBeWritten00000"
COLUMNS = (
    "image_path", "name", "product_type", "color", "keywords", "image_id", "item_id", "image_sha1",
    "phash", "brand", "material", "pattern", "item_shape", "style", "finish_type",
)  # fmt: skip
TYPES = ("chair", "mug", "cellular_phone_case", "rug", "lamp")
COLORS = ("red", "royal blue", "green", "white")
MATERIALS = ("wood", "metal", "glass")
PATTERNS = ("striped", "solid")


def products(n: int) -> list[dict[str, str]]:
    """Rows of a balanced table; names are unique."""
    return [
        dict.fromkeys(COLUMNS, "")
        | {
            "image_path": f"{i % 256:02x}/{i:08x}.jpg",
            "name": f"product {i}" + (f", set of {i % 4 + 1}" if i % 4 else ""),
            "product_type": TYPES[i % len(TYPES)],
            "color": COLORS[i % len(COLORS)],
            "keywords": f"thing, item {i}",
            "image_id": f"image{i}",
            "item_id": f"B{i:09}",
            "image_sha1": f"{i:040x}",
            "phash": f"{i:016x}",
            "brand": "rivington",
            "material": MATERIALS[i % len(MATERIALS)],
            "pattern": PATTERNS[i % len(PATTERNS)],
        }
        for i in range(n)
    ]


def write_balanced(folder: Path, rows: Sequence[Mapping[str, str]]) -> None:
    (folder / "data").mkdir(exist_ok=True)
    with (folder / "data" / "balanced.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


QUICK = {"batch_poll_s": 0.05, "timeout_s": 2}  # where it may wait


@cache
def parameters() -> dict[str, Any]:
    """The repository's params.yaml; parsing it takes longer than many a test."""
    return dict(yaml.safe_load((REPOSITORY / "params.yaml").read_text()))


@cache
def defaults() -> Config:
    """The repository's configuration. Files that it names are looked for in the current folder."""
    return load_config(REPOSITORY / "params.yaml")


def write_params(folder: Path, **generate: Any) -> None:
    """The repository's params.yaml with another `generate` section."""
    params = parameters() | {"generate": parameters()["generate"] | QUICK | generate}
    (folder / "params.yaml").write_text(json.dumps(params))  # which is YAML, too


def make(folder: Path, n: int = 6, **generate: Any) -> list[dict[str, str]]:
    """Fill a folder so that `abo-vqa generate` runs in it; returns the products."""
    rows = products(n)
    paths = [row["image_path"] for row in rows]
    contents = {path: jpeg(i, side=48) for i, path in enumerate(paths)}
    images = {row["image_id"]: row["image_path"] for row in rows}
    write_shop(folder / "data" / "raw" / "sample", [listing("image0")], images, contents)
    write_balanced(folder, rows)
    shutil.copytree(REPOSITORY / "conf", folder / "conf", dirs_exist_ok=True)
    (folder / "dvc.yaml").write_text("")
    write_params(folder, **generate)
    return rows


def configure(folder: Path, **generate: Any) -> Config:
    """The configuration with another `generate` section, also as the folder's params.yaml."""
    write_params(folder, **generate)
    known = defaults()
    section = GenerateConfig.model_validate(known.generate.model_dump() | QUICK | generate)
    return known.model_copy(update={"generate": section})


def vqa(folder: Path) -> list[dict[str, str]]:
    with (folder / "data" / "generated.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def journal_entries(folder: Path, **settings: Any) -> list[JournalEntry]:
    """The entries of the journal for a configuration; see `configure`."""
    path = annotations_folder(configure(folder, **settings).generate) / "main.jsonl"
    return read_journal(path).entries


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter pauses between tries, for tests that aren't about how pauses grow."""
    monkeypatch.setattr("abo_vqa.remote.backoff.FIRST_PAUSE_S", 0.1)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with an API key in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.delenv("GEMINI_API_KEYS", raising=False)
    return tmp_path
