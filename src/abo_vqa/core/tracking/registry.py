"""The registered model: an adapter as a version, its base stored once, what a test found of it."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow import MlflowClient
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import AnyType, ColSpec, Schema

from abo_vqa.core.fingerprints import content_digest, file_md5, fingerprint
from abo_vqa.core.tracking.parents import search

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.core.summary import Summary

_PACKAGE = Path(__file__).parents[2]
_NEEDED = ("mlflow", "torch", "transformers", "peft", "pillow", "pandas")


@dataclass(frozen=True)
class About:
    """What is recorded of an adapter beside its weights.

    Attributes:
        name: the registered model's.
        profile: the settings' profile; each has its own aliases.
        description: the version's.
        settings: what answering depends on: `max_new_tokens`, `threads`.
        validation: accuracy on the held-out rows, NaN if it isn't known.
        held_out: a fingerprint of the held-out rows: accuracies on others can't be compared.
        tags: the version's.
    """

    name: str
    profile: str
    description: str
    settings: Mapping[str, int]
    validation: float
    held_out: str
    tags: Mapping[str, str] = field(default_factory=dict)


def about(config: Config, summary: Summary) -> About:
    """Describe the adapter that the stage `finetune` returned.

    Args:
        config: the settings.
        summary: the stage's summary.
    """
    trained_on = {name: file_md5(path) for name, path in summary.datasets.items()}
    accuracy = float(summary.metrics.get("best_validation_accuracy", float("nan")))
    described = "\n".join(
        [
            f"LoRA on {config.models.blip.path}: r {config.lora.r}, alpha {config.lora.alpha:g}, "
            f"lr {config.lora.lr:g}, targets {', '.join(config.lora.targets)}; "
            f"profile {config.profile}, seed {config.seed}.",
            summary.message,
        ]
    )
    return About(
        name=config.tracking.model_name,
        profile=config.profile,
        description=described,
        settings={
            "max_new_tokens": config.models.blip.max_new_tokens,
            "threads": config.lora.threads or config.threads,
        },
        validation=accuracy,
        held_out=fingerprint([trained_on, config.seed, config.lora.validation]),
        tags={"profile": config.profile, "lora.r": str(config.lora.r)},
    )


def register(client: MlflowClient, run: str, experiment: str, adapter: Path, about: About) -> None:
    """Log the adapter as a pyfunc model that answers questions, and register a version of it.

    The version has the aliases `latest-<profile>` and, if no version that was validated on the
    same rows is better, `champion-<profile>`. The base isn't copied into it: see `_stored_base`.

    Args:
        client: MLflow's client.
        run: the run's id.
        experiment: the experiment's id.
        adapter: the adapter's folder.
        about: what to record of it.
    """
    versions = client.search_model_versions(f"run_id = '{run}'")
    if not versions:
        described = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        base = described["base_model_name_or_path"]
        settings: dict[str, Any] = dict(about.settings)
        if Path(base).is_dir():
            settings["base"] = _stored_base(client, experiment, Path(base))
        logged = client.create_logged_model(
            experiment, name="model", source_run_id=run, tags=dict(about.tags)
        )
        with warnings.catch_warnings():
            # An example would be answered here to check the signature, which a test does already.
            warnings.filterwarnings("ignore", message=".*input example was not provided")
            Model.log(
                artifact_path=None,
                name="model",
                flavor=mlflow.pyfunc,
                run_id=run,
                model_id=logged.model_id,
                registered_model_name=about.name,
                python_model=str(_PACKAGE / "core/registered_model.py"),
                code_paths=[str(_PACKAGE / "data/image_decoding.py")],
                artifacts={"adapter": str(adapter)},
                model_config=settings,
                signature=_signature(),
                pip_requirements=[f"{name}=={_release(name)}" for name in _NEEDED],
            )
        versions = client.search_model_versions(f"run_id = '{run}'")
    _describe_version(client, run, versions[0].version, about)


def _release(library: str) -> str:
    """Return a library's version as package indexes know it: without a build's "+cpu"."""
    return metadata.version(library).partition("+")[0]


def _signature() -> ModelSignature:
    """Return the columns: image (text or bytes) and question in, answer and error out."""
    inputs = Schema([ColSpec(AnyType(), "image"), ColSpec(AnyType(), "question")])
    outputs = Schema([ColSpec("string", "answer"), ColSpec("string", "error")])
    return ModelSignature(inputs, outputs)


def _stored_base(client: MlflowClient, experiment: str, base: Path) -> str:
    """Store a base checkpoint that is a local folder, once.

    Returns:
        "models:/<id>" of a logged model that holds the folder's files.
    """
    digest = content_digest(base)
    models = client.search_logged_models([experiment], f"tags.`abo_vqa.base` = '{digest}'")
    ready = [model for model in models if str(model.status) in ("READY", "LoggedModelStatus.READY")]
    if ready:
        return f"models:/{ready[0].model_id}"
    model = client.create_logged_model(
        experiment,
        name=f"base-{base.name}",
        tags={"abo_vqa.base": digest, "mlflow.note.content": f"The checkpoint {base}."},
        model_type="checkpoint",
    )
    client.log_model_artifacts(model.model_id, str(base))
    client.finalize_logged_model(model.model_id, "READY")
    return f"models:/{model.model_id}"


def _describe_version(client: MlflowClient, run: str, version: str, about: About) -> None:
    """Give a version its description, tags and aliases."""
    experiment_name = _parent_name(client, run)
    client.update_model_version(about.name, version, description=about.description)
    tags = {**about.tags, "experiment": experiment_name, "held_out": about.held_out}
    if not math.isnan(about.validation):
        tags["best_validation_accuracy"] = f"{about.validation:.6f}"
    for key, value in tags.items():
        client.set_model_version_tag(about.name, version, key, value)
    client.set_registered_model_alias(about.name, f"latest-{about.profile}", version)
    if _is_champion(client, about):
        client.set_registered_model_alias(about.name, f"champion-{about.profile}", version)


def _parent_name(client: MlflowClient, run: str) -> str:
    """Return the name of the invocation that a run belongs to."""
    tags = client.get_run(run).data.tags
    parent = tags.get("mlflow.parentRunId")
    return str(client.get_run(parent or run).info.run_name)


def _is_champion(client: MlflowClient, about: About) -> bool:
    """Tell whether no version that was validated on the same rows is better."""
    aliases = client.get_registered_model(about.name).aliases
    version = aliases.get(f"champion-{about.profile}")
    if version is None:
        return True
    best = client.get_model_version(about.name, version).tags
    if best.get("held_out") != about.held_out:
        return True
    return about.validation >= float(best.get("best_validation_accuracy", "-inf"))


def add_result(
    client: MlflowClient, experiment: str, output: str, digest: str, metrics: Mapping[str, float]
) -> None:
    """Log what became known about a stage's output on the run that made it.

    If that run registered a model, its version gets the same numbers as tags, `test_…`.

    Args:
        client: MLflow's client.
        experiment: the experiment's id.
        output: the output's path.
        digest: its hash.
        metrics: the numbers.
    """
    runs = search(client, experiment, {f"dvc.out.{output}": digest})
    if not runs:
        return  # it was made elsewhere, or before runs were recorded here
    run = runs[0].info.run_id
    for key, value in metrics.items():
        client.log_metric(run, key, value)
    for model in client.search_model_versions(f"run_id = '{run}'"):
        for key, value in metrics.items():
            client.set_model_version_tag(model.name, model.version, f"test_{key}", f"{value:.6f}")
