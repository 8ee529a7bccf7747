"""The blocks of the documentation that run in a clone, and what has to be there for them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from helpers import scratch

from tests.support.pages import Block
from tests.support.workspaces import pictures


def clone_with_own_files(parent: Path) -> Path:
    """A clone of the repository with the files that the pages call a reader's own."""
    folder = scratch.clone(parent / "abo-vqa")
    names = [f"{number}.png" for number in range(4)]
    (folder / "photos").mkdir()
    for name, picture in zip(names, pictures(4), strict=True):
        picture.save(folder / "photos" / name)
    for name in ("photo.jpg", "chair.webp"):
        pictures(1)[0].save(folder / name)
    answers = ("red", "blue", "yes", "2")
    rows = [f"{n},what is it?,{a}" for n, a in zip(names, answers, strict=True)]
    tables = {
        "questions.csv": ["image_path,question", *(f"{n},what color is it?" for n in names)],
        "train.csv": ["image_path,question,answer", *rows[:2]],
        "test.csv": ["image_path,question,answer", *rows[2:]],
        "predictions.csv": ["image_path,question,answer,prediction", *(f"{r},red" for r in rows)],
    }
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    exclude = [*tables, "photos", "photo.jpg", "chair.webp", "build", "scores", "results"]
    (folder / ".git/info/exclude").write_text("\n".join(f"/{name}" for name in exclude) + "\n")
    return folder


def matches(shown: str, output: str) -> bool:
    """Whether a command printed what the page shows; "…" stands for anything."""

    def plain(text: str) -> str:
        return "\n".join(line.rstrip() for line in text.strip().splitlines())

    pattern = ".*?".join(re.escape(part) for part in plain(shown).split("…"))
    return re.search(pattern, plain(output), re.DOTALL) is not None


def run_block(block: Block, folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", block.text],
        cwd=folder, env=scratch.environment(), text=True, check=False, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.place}\n{block.text}\n{done.stdout[-5000:]}"
    if block.output is not None:
        assert matches(block.output, done.stdout), (
            f"{block.place} shows\n{block.output}\nthe command printed\n{done.stdout[-5000:]}"
        )
