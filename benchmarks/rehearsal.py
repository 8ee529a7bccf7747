"""The real run rehearsed: the `abo` profile from `curate` to `report`, without data and weights.

    python benchmarks/rehearsal.py               # all models; 36 GB of disk, 14 of memory and more
    python benchmarks/rehearsal.py --part small  # BLIP, ViLT, CLIP, the scorers: ten minutes
    python benchmarks/rehearsal.py --sizes toy   # only whether it works

In a clone of the repository, through DVC and as the profile has it: its ids and revisions in the
hub's layout, of the real sizes and kinds of files, with random weights (`helpers/hub`); archives
of the real shape (`helpers/abo_shaped`) with a handful of pictures; the offline annotator. What
differs, the table says. Checkpoints are written once, into .cache/rehearsal.

A trained model says one or two words and stops; random weights go on to the longest answer allowed,
so rates are those of the worst case.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from helpers.abo_shaped import image_ids, write_listings, write_photographs
from helpers.hub.catalogue import named, write_all
from helpers.scratch import ROOT, clone, commit, environment, run
from helpers.usage import Usage, bytes_in, machine, measured

CACHE = ROOT / ".cache" / "rehearsal"
SMALL = ("blip", "clip-fixed", "clip-train", "clip-all", "vilt", "blind")
HALVES = ("blip2", "llava")  # too large for float32 in the memory of most machines
AT_ONCE = 6  # rows of theirs: each has some 0.3 GB of keys and values
LISTINGS_A_PICTURE = 8  # most are in other languages, or lack something
# The study's: what the full run does with each stage's rate.
PICTURES, ROWS, TRAINED = 14_798, 45_482, round(3 * 0.9 * 36_373)


@dataclass(frozen=True)
class Stage:
    """One line of the table."""

    name: str
    usage: Usage
    written: int
    rate: float | None = None
    full_hours: float | None = None


def main() -> int:
    options = parse()
    began = time.perf_counter()
    folder: Path = options.folder
    work = folder / "clone"
    shutil.rmtree(work, ignore_errors=True)
    profile = yaml.safe_load((ROOT / "conf/profiles/abo.yaml").read_text(encoding="utf-8"))
    models = SMALL if options.part == "small" else every_model()
    home = folder / f"hub-{options.sizes}"
    checkpoints = write_checkpoints(home, profile, models, options.sizes == "real")
    changes = prepare(work, options, models)
    stages = [checkpoints]
    for name in stage_names(models):
        stages.append(rehearse(name, work, home, folder / "logs"))
    stages = with_rates(stages, work)
    print(table(stages, changes, time.perf_counter() - began))
    result = {
        "machine": machine(),
        "part": options.part,
        "sizes": options.sizes,
        "changes": changes,
        "stages": [asdict(stage) for stage in stages],
    }
    out = folder / f"{options.part}-{options.sizes}.json"
    out.write_text(json.dumps(result, indent=2), encoding="utf-8")
    print(f"\n{out}\n{work / 'reports' / 'report.html'}")
    return int(any(stage.usage.status for stage in stages))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=["all", "small"], default="all")
    parser.add_argument("--sizes", choices=["real", "toy"], default="real", help="of the weights")
    parser.add_argument("--pictures", type=int, default=16, help="in the archive (%(default)s)")
    parser.add_argument("--folder", type=Path, default=CACHE, help="checkpoints, clone, logs")
    options = parser.parse_args()
    options.folder = options.folder.absolute()
    return options


def every_model() -> tuple[str, ...]:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return tuple(params["baselines"]["models"])


def stage_names(models: tuple[str, ...]) -> list[str]:
    """The pipeline's stages in the order of dvc.yaml, those of a matrix once for each model."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    # No vectors, and `embed` of BLIP alone, which the committed settings train.
    expanded = {"vectors": [], "embed": ["embed@blip"]}
    expanded["baseline"] = [f"baseline@{model}" for model in models]
    return [name for stage in stages for name in expanded.get(stage, [stage])]


def write_checkpoints(
    home: Path, profile: dict[str, Any], models: tuple[str, ...], real: bool
) -> Stage:
    """The hub's cache with a stand-in for each checkpoint that the models and scorers need."""
    checkpoints = named(profile)
    needed = {*(model.partition("-")[0] for model in models), *profile["scorers"]}
    began = time.perf_counter()
    try:
        written = write_all(
            home, [checkpoints[name] for name in checkpoints if name in needed], real
        )
    except OSError as error:
        sys.exit(str(error))
    return Stage("(checkpoints)", Usage(seconds=time.perf_counter() - began), written)


def prepare(work: Path, options: argparse.Namespace, models: tuple[str, ...]) -> dict[str, Any]:
    """A clone with the profile's settings but for those returned, with archives, pinned."""
    print("preparing a clone", flush=True)
    clone(work)
    changes = settings(options, models)
    profile = {k: v for k, v in changes.items() if k.startswith(("models.", "batch_sizes."))}
    edit(work / "conf/profiles/abo.yaml", profile)
    params = edit(work / "params.yaml", {k: changes[k] for k in changes if k not in profile})
    raw = work / "data" / "raw" / "abo"
    images = image_ids(options.pictures, 0)[len(params["curate"]["excluded_images"]) :]
    write_listings(raw, LISTINGS_A_PICTURE * len(images), images)
    write_photographs(raw, images)
    commit(work)
    run(work, "dvc", "commit", "--quiet", "--force", "data.dvc")
    commit(work)
    run(work, "abo-vqa", "tracking")
    return changes


def settings(options: argparse.Namespace, models: tuple[str, ...]) -> dict[str, Any]:
    """What has to be otherwise than in a real run, by dotted names."""
    import torch

    changes: dict[str, Any] = {"profile": "abo", "generate.annotator": "offline"}
    if options.part == "small":
        changes["baselines.models"] = list(models)
    if options.sizes == "toy":
        changes["models.clip.architecture"] = None  # the small one describes itself
    elif not torch.cuda.is_available():
        for name in HALVES if options.part == "all" else ():
            changes[f"models.{name}.dtype"] = "bfloat16"
            changes[f"batch_sizes.{name}"] = AT_ONCE
    return changes


def edit(file: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    for name, value in changes.items():
        *path, key = name.split(".")
        section = content
        for part in path:
            section = section[part]
        section[key] = value
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return content


def rehearse(name: str, work: Path, home: Path, logs: Path) -> Stage:
    """Run one stage; a failed one says why and leaves the others to go on as far as they can."""
    print(f"{name} …", end=" ", flush=True)
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name.replace('@', '-')}.log"
    before = bytes_in(work)
    env = environment(HF_HOME=str(home), HF_HUB_OFFLINE="1")
    usage = measured(["dvc", "repro", "--single-item", name], work, env, log)
    print(f"{usage.seconds:.0f} s" if not usage.status else f"failed, see {log}", flush=True)
    if usage.status:
        print("\n".join(log.read_text(errors="replace").splitlines()[-5:]))
    return Stage(name, usage, max(0, bytes_in(work) - before))


def with_rates(stages: list[Stage], work: Path) -> list[Stage]:
    """The stages with their rates as MLflow has them, loading left out, and what follows."""
    runs = recorded(work)
    loading = runs.get("baseline@blip", {}).get("load_seconds", 0.0)
    lines = []
    for stage in stages:
        metrics = runs.get(stage.name, {})
        rate, count = None, ROWS
        if stage.name == "finetune" and "rows_per_second" in metrics:
            rate, count = metrics["rows_per_second"], TRAINED
        elif stage.name.startswith("embed@") and "pictures_per_second" in metrics:
            pictures, count = metrics["pictures"], PICTURES
            rate = net(pictures, metrics["pictures_per_second"], loading)
        elif "load_seconds" in metrics:
            rate = net(metrics["rows"], metrics["rows_per_second"], metrics["load_seconds"])
        hours = count / rate / 3600 if rate else None
        lines.append(Stage(stage.name, stage.usage, stage.written, rate, hours))
    return lines


def net(count: float, rate: float, loading: float) -> float | None:
    """A rate over all of a stage, for the part of it behind loading."""
    seconds = count / rate - loading
    return count / seconds if seconds > 0 else None


def recorded(work: Path) -> dict[str, dict[str, float]]:
    """The metrics of each stage's run in the clone's MLflow database."""
    import mlflow

    uri = f"sqlite:///{work / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, order_by=["attributes.start_time ASC"])
    return {r.data.tags["dvc.stage"]: r.data.metrics for r in runs if "dvc.stage" in r.data.tags}


def table(stages: list[Stage], changes: Mapping[str, Any], seconds: float) -> str:
    lines = [
        "",
        f"{machine()}; {seconds / 60:.1f} minutes in all",
        f"otherwise than in a real run: {', '.join(f'{k}: {v}' for k, v in changes.items())}",
        "",
        "| stage | s | memory, GB | without mapped files | device, GB | written, MB "
        "| rows a second | full run, h |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for stage in stages:
        usage = stage.usage
        cells = [
            stage.name,
            "failed" if usage.status else f"{usage.seconds:.0f}",
            amount(usage.memory / 1e9 or None, 1),
            amount(usage.private / 1e9 or None, 1),
            amount(None if usage.device is None else usage.device / 1e9, 1),
            amount(stage.written / 1e6, 1),
            amount(stage.rate, 2),
            amount(stage.full_hours, 1),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def amount(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
