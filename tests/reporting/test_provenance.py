"""Provenance: DVC's hashes, settings and versions; nothing that another machine would change."""

import hashlib

import yaml

from abo_vqa.core.config import load_config
from abo_vqa.reporting.provenance import (
    artifact_hashes,
    library_versions,
    provenance,
    settings_rows,
)


def test_files_are_hashed_and_folders_come_from_the_lock(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "vqa.csv").write_text("image_path,question,answer\n")
    stages = {
        "curate": {
            "deps": [{"path": "data/raw/sample", "md5": "aa.dir"}, {"path": "src/abo_vqa/x.py"}],
            "outs": [{"path": "data/balanced.csv", "md5": "bb"}],
        },
        "generate": {"deps": [{"path": "src/abo_vqa/generate", "md5": "cc.dir"}]},
        "finetune": {"outs": [{"path": "models/adapter", "md5": "dd.dir"}]},
        # The report's own outputs of the last run would make two equal runs differ.
        "report": {"outs": [{"path": "reports/figures", "md5": "ee.dir"}]},
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    found = dict(artifact_hashes())
    md5 = hashlib.md5(b"image_path,question,answer\n").hexdigest()
    assert found == {
        "data/raw/sample": "aa.dir",
        "data/vqa.csv": md5,
        "models/adapter": "dd.dir",
    }


def test_settings_are_leaves_by_their_full_name():
    tree = {"lora": {"r": 16, "targets": ["query", "value"], "lr": None}, "seed": 42}
    assert settings_rows(tree) == [
        ("lora.r", "16"),
        ("lora.targets", "query, value"),
        ("lora.lr", "null"),
        ("seed", "42"),
    ]


def test_settings_of_the_machine_are_left_out():
    config = load_config()
    machine = {"device": "cuda", "engine": "ray", "workers": 2}
    other = config.model_copy(update={"compute": config.compute.model_copy(update=machine)})
    settings = provenance(config, {})["settings"]
    assert settings == provenance(other, {})["settings"]
    assert ("compute.dtype", config.compute.dtype) in settings


def test_versions_name_what_results_depend_on():
    assert {"python", "torch", "transformers", "numpy"} <= dict(library_versions()).keys()
