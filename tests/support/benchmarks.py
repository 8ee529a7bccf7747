"""A table from elsewhere for `abo-vqa benchmark`, with a folder and a tar of its images."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pandas as pd
import yaml

from tests.support import ROOT, workspaces
from tests.support.models import ANSWERS

BENCHMARK = ["benchmark", "--table", "exam.csv", "--images", "photos"]
BLIND = ["blind-majority", "blind-type", "blind-question", "blind-ngram"]
_WORDNET = ROOT / ".cache" / "abo-vqa" / "nltk_data"


def exam(folder: Path, *models: str) -> Path:
    """A workspace with models, and an exam with columns and paths of its own.

    Its images are none of the training images; one of its rows has no image. The checkout's WordNet
    is there, for processes that don't share this one's list of folders.
    """
    root = workspaces.workspace(folder, *models)
    if _WORDNET.is_dir():
        (root / ".cache" / "abo-vqa").mkdir(parents=True, exist_ok=True)
        (root / ".cache" / "abo-vqa" / "nltk_data").symlink_to(_WORDNET)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["evaluate"]["resamples"] = 200
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    photos = root / "photos/set"
    photos.mkdir(parents=True)
    rows = []
    for i, picture in enumerate(workspaces.pictures(8, seed=5)):
        picture.save(photos / f"photo-{i}.png")
        for k in range(3):
            question = workspaces.QUESTIONS[(i + 2 * k) % len(workspaces.QUESTIONS)]
            rows.append((f"/elsewhere/set/photo-{i}.png", question, ANSWERS[(i + k) % 5]))
    rows += [("gone.png", "what color is it?", "red"), ("set\\photo-1.png", "what?", "chair")]
    table = pd.DataFrame(rows, columns=["Image File", "Query", "GT"])
    table.to_csv(root / "exam.csv", index=False, sep=";")
    with tarfile.open(root / "photos.tar", "w") as tar:
        tar.add(root / "photos/set", arcname="./set")
    return root
