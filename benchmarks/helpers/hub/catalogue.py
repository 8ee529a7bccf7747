"""Stand-ins for every checkpoint that the `abo` profile names, in the hub's cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from helpers.hub import bart, blip, blip2, clip, llava, roberta, vilt
from helpers.hub.layout import Repository, snapshot, write

REPOSITORIES: dict[str, Callable[[bool], Repository]] = {
    "Salesforce/blip-vqa-base": blip.repository,
    "Salesforce/blip2-opt-2.7b": blip2.repository,
    "timm/vit_base_patch32_clip_224.openai": clip.repository,
    "llava-hf/llava-1.5-7b-hf": llava.repository,
    "dandelin/vilt-b32-finetuned-vqa": vilt.repository,
    "roberta-large": roberta.repository,
    "facebook/bart-large-cnn": bart.repository,
}


def named(profile: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """The hub's id and revision of each model and scorer of a profile that has a stand-in."""
    sections = {**profile["models"], **profile["scorers"]}
    return {
        name: (found["path"], found["revision"])
        for name, found in sections.items()
        if found["path"] in REPOSITORIES
    }


def write_all(home: Path, wanted: Iterable[tuple[str, str]], real: bool) -> int:
    """Write the stand-ins that aren't there yet; returns how many bytes of weights that took.

    Raises:
        OSError: the disk has less room than they need.
    """
    missing = [(p, r) for p, r in wanted if not snapshot(home, p, r).is_dir()]
    made = {path: REPOSITORIES[path](real) for path, _ in missing}
    needed = sum(repository.bytes for repository in made.values())
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free
    if needed > free:
        raise OSError(f"{home} needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
    for path, revision in missing:
        print(f"writing {path}, {made[path].bytes / 1e9:.2f} GB", flush=True)
        write(home, path, revision, made[path])
    return needed
