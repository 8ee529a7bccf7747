"""MLflow: a parent run per invocation, a child per executed stage. (serving.py holds the model.)

One database in the main checkout serves `dvc repro`, `dvc exp run`, `--temp` and the queue, since
DVC sets `DVC_ROOT` to the main checkout everywhere. `MLFLOW_TRACKING_URI` overrides it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.errors import UserError
from abo_vqa.io import file_md5, project_root

if TYPE_CHECKING:
    from abo_vqa.config import Config
    from abo_vqa.stage import Summary

# By default MLflow reports its use to its makers: not from a pipeline that runs offline.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported
# Sections of the configuration that concern a stage; every other stage logs its namesake.
SECTIONS = {"baseline": "baselines", "finetune": "lora"}
BATCH = 500  # metrics a request: MLflow's limit is 1000


def store() -> tuple[str, str | None]:
    """Tracking URI and artifact location (None: the server decides)."""
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri, None
    root = project_root().resolve()
    return f"sqlite:///{root / 'mlflow.db'}", (root / "mlartifacts").as_uri()


def prepare(experiment: str) -> str:
    """Create database and experiment if needed; return the experiment's id.

    Concurrent first creation fails inside MLflow, hence the lock.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow
    from filelock import FileLock
    from mlflow.exceptions import MlflowException

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    uri, artifacts = store()
    mlflow.set_tracking_uri(uri)
    lock = project_root() / ".cache" / "abo-vqa" / "mlflow.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock):
            client = mlflow.MlflowClient()
            found = client.get_experiment_by_name(experiment)
            if found is None:
                return str(client.create_experiment(experiment, artifact_location=artifacts))
    except MlflowException as error:
        raise UserError(
            f"can't use MLflow at {uri}: {error}\n"
            "Start the server, or unset MLFLOW_TRACKING_URI to use the local database."
        ) from error
    if found.lifecycle_stage == "deleted":
        raise UserError(
            f"the MLflow experiment {experiment!r} is deleted. Restore it (mlflow experiments "
            f"restore -x {found.experiment_id}) or change tracking.experiment in params.yaml."
        )
    return str(found.experiment_id)


def invocation() -> tuple[str, str]:
    """Key and name of what the user started: an experiment, or one `dvc repro`."""
    if name := os.environ.get("DVC_EXP_NAME"):
        return f"exp:{name}", name
    import psutil

    for process in psutil.Process().parents():
        words = process.cmdline()[:3]
        if any(Path(word).name in ("dvc", "dvc.exe") for word in words):
            return f"repro:{process.pid}:{process.create_time():.0f}", f"repro {commit()[:7]}"
    return f"process:{os.getpid()}:{time.time():.0f}", f"by hand {commit()[:7]}"


def commit() -> str:
    """The checked-out git commit, or "" outside a repository."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def parent_run(client: Any, experiment_id: str, key: str, name: str) -> str:
    """Find the invocation's parent run by its tag, or create it; return its id."""
    from filelock import FileLock

    with FileLock(project_root() / ".cache" / "abo-vqa" / "mlflow.lock"):
        found = client.search_runs(
            [experiment_id], filter_string=f"tags.`abo_vqa.invocation` = '{key}'", max_results=1
        )
        if found:
            return str(found[0].info.run_id)
        tags = {"abo_vqa.invocation": key, "mlflow.source.git.commit": commit()}
        return str(client.create_run(experiment_id, tags=tags, run_name=name).info.run_id)


def hashes(addressing: str) -> dict[str, str]:
    """Hashes of a DVC stage's deps and outs as they are now, as dvc.lock will record them."""
    from dvc.repo import Repo
    from dvc_data.hashfile.build import build

    tags = {}
    with Repo() as repo:
        (stage,) = repo.stage.collect(addressing)
        for kind, items in (("dep", stage.deps), ("out", stage.outs)):
            for item in items:
                if item.protocol == "local" and item.exists:
                    _, _, obj = build(
                        repo.cache.local, item.fs_path, item.fs, "md5",
                        ignore=repo.dvcignore, dry_run=True,
                    )  # fmt: skip
                    tags[f"dvc.{kind}.{item.def_path}"] = str(obj.hash_info.value)
    return tags


class Tracker:
    """One MLflow run being written; metrics are sent in batches."""

    def __init__(self, run_id: str, model_name: str) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient()
        self.run_id = run_id
        self.model_name = model_name
        self.waiting: list[Any] = []
        self.sent = time.monotonic()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each metric's history."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.waiting += [Metric(name, float(v), now, step) for name, v in metrics.items()]
        if len(self.waiting) >= BATCH or time.monotonic() - self.sent > 5:
            self.flush()

    def flush(self) -> None:
        for start in range(0, len(self.waiting), BATCH):
            self.client.log_batch(self.run_id, metrics=self.waiting[start : start + BATCH])
        self.waiting.clear()
        self.sent = time.monotonic()

    def finish(self, summary: Summary) -> None:
        """Write down what the stage returned."""
        import mlflow

        self.flush()
        mlflow.log_metrics({k: float(v) for k, v in summary.metrics.items()}, run_id=self.run_id)
        mlflow.log_params({k: str(v)[:6000] for k, v in summary.params.items()})
        for context, path in summary.datasets.items():
            log_dataset(path, context)
        for path in summary.artifacts:
            if path.is_dir():
                mlflow.log_artifacts(str(path), path.name)
            else:
                mlflow.log_artifact(str(path))
        if summary.model is not None:
            register(summary.model, self.model_name)


def log_dataset(path: Path, context: str) -> None:
    """Log a table with DVC's MD5 as its digest, so that a run leads to the exact file."""
    import mlflow
    from mlflow.data.sources import LocalArtifactDatasetSource

    from abo_vqa.io import read_table

    source = LocalArtifactDatasetSource(path.as_posix())
    table = mlflow.data.from_pandas(
        read_table(path), source=source, name=path.stem, digest=file_md5(path)
    )
    mlflow.log_input(table, context=context)


def register(adapter: Path, name: str) -> None:
    """Log the adapter as a pyfunc model that answers questions, and register a version of it."""
    import json

    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    asked = Schema([ColSpec("string", "image"), ColSpec("string", "question")])
    artifacts = {"adapter": str(adapter)}
    base = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    if Path(base).is_dir():  # a hub id is fetched when the model is loaded
        artifacts["base"] = base
    with warnings.catch_warnings():
        # An example would be answered here to check the signature: seconds, for what a test shows.
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        warnings.filterwarnings("ignore", message=".*Type hint used in the model's predict")
        mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("serving.py")),
            artifacts=artifacts,
            registered_model_name=name,
            signature=ModelSignature(asked, Schema([ColSpec("string", "answer")])),
            pip_requirements=["torch", "transformers", "peft", "pillow", "pandas"],
        )


def stage_params(name: str, config: Config) -> dict[str, str]:
    """The settings that concern a stage, flat: {"lora.r": "16", …}."""
    stage, _, model = name.partition("@")
    section = SECTIONS.get(stage, stage)
    flat = {"profile": config.profile, "seed": config.seed, "threads": config.threads}
    settings = getattr(config, section, None)
    if settings is not None:
        flat |= {f"{section}.{k}": v for k, v in settings.model_dump(mode="json").items()}
    family = "blip" if stage in ("embed", "finetune") else model.partition("-")[0]
    checkpoint = getattr(config.models, family, None)
    if checkpoint is not None:
        flat |= {f"models.{family}.{k}": v for k, v in checkpoint.model_dump(mode="json").items()}
    return {key: str(value) for key, value in flat.items()}


@contextmanager
def open_run(
    config: Config, key: str, parent_name: str, name: str, tags: Mapping[str, str]
) -> Iterator[Tracker]:
    """A child run of the parent with this key; both end FINISHED, or FAILED on an exception."""
    import mlflow

    experiment_id = prepare(config.tracking.experiment)
    client = mlflow.MlflowClient()
    parent = parent_run(client, experiment_id, key, parent_name)
    client.update_run(parent, status="RUNNING")
    status = "FAILED"
    try:
        with mlflow.start_run(
            experiment_id=experiment_id,
            run_name=name,
            parent_run_id=parent,
            tags={"mlflow.source.git.commit": commit(), "mlflow.source.name": name, **tags},
        ) as run:
            tracker = Tracker(run.info.run_id, config.tracking.model_name)
            try:
                yield tracker
            finally:
                tracker.flush()  # what was seen before a crash or an interruption
        status = "FINISHED"
    finally:
        client.set_terminated(parent, status=status)


@contextmanager
def track(name: str, config: Config) -> Iterator[Tracker]:
    """Track one stage: parameters and input hashes before, outputs' hashes after."""
    import mlflow

    key, parent_name = invocation()
    addressing = os.environ.get("DVC_STAGE", "")
    with open_run(config, key, parent_name, name, {"dvc.stage": addressing or name}) as tracker:
        mlflow.log_params(stage_params(name, config))
        started = time.monotonic()
        yield tracker
        mlflow.log_metric("stage_seconds", time.monotonic() - started)
        if addressing:
            mlflow.set_tags(hashes(addressing))


@contextmanager
def track_trial(name: str, params: Mapping[str, Any], config: Config) -> Iterator[Tracker]:
    """Track one trial of a search named `name`: all its trials share a parent run."""
    import mlflow

    with open_run(config, f"tune:{name}", f"tune {name}", "trial", {}) as tracker:
        mlflow.log_params({key: str(value) for key, value in params.items()})
        yield tracker


def main() -> int:
    """Create the database once, before anything runs side by side (`make setup`)."""
    from abo_vqa.config import load_config

    experiment = load_config().tracking.experiment
    print(f"MLflow experiment {experiment} (id {prepare(experiment)}) at {store()[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
