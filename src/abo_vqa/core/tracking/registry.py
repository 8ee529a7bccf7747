"""The registered model: one version per adapter, its base stored once, and its test results."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import AnyType, ColSpec, Schema

from abo_vqa.core.fingerprints import content_digest
from abo_vqa.core.summary import ModelVersionInfo
from abo_vqa.core.tracking.champion import Decision, appoint, held_out_tags
from abo_vqa.core.tracking.parents import newest_run

_MODEL_NOTE = """\
LoRA adapters that answer questions about product images. `models:/{name}@champion` is the best
version of the profile that was trained last: a new one replaces it only if it is better on the same
held-out rows by McNemar's test (p < 0.05), else it is the `challenger`. `champion-<profile>` and
`latest-<profile>` are there for each profile.
"""
_TEST = "\n\nTest: "


def register(
    client: MlflowClient, run: str, experiment: str, adapter: Path, info: ModelVersionInfo
) -> None:
    """Log the adapter as a pyfunc model that answers questions, and register a version of it.

    The version has the alias `latest-<profile>`; see `champion` for the others. The base isn't
    copied into it: see `_stored_base`.

    Args:
        client: MLflow's client.
        run: the run's id.
        experiment: the experiment's id.
        adapter: the adapter's folder.
        info: what to record besides it.
    """
    versions = client.search_model_versions(f"run_id = '{run}'")
    if not versions:
        described = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        base = described["base_model_name_or_path"]
        settings: dict[str, Any] = dict(info.settings)
        if Path(base).is_dir():
            settings["base"] = _stored_base(client, experiment, Path(base))
        logged = client.create_logged_model(
            experiment, name="model", source_run_id=run, tags=dict(info.tags)
        )
        with warnings.catch_warnings(), _packed(info) as package:
            # The archive may have no image that can be read.
            warnings.filterwarnings("ignore", message=".*input example was not provided")
            Model.log(
                artifact_path=None,
                name="model",
                flavor=mlflow.pyfunc,
                run_id=run,
                model_id=logged.model_id,
                registered_model_name=info.name,
                python_model=info.code,
                code_paths=[str(package)],
                artifacts={"adapter": str(adapter)},
                model_config=settings,
                signature=_signature(info),
                input_example=pd.DataFrame(info.example) if info.example else None,
                pip_requirements=[f"{name}=={_release(name)}" for name in info.requirements],
            )
        versions = client.search_model_versions(f"run_id = '{run}'")
    _describe_version(client, run, versions[0].version, info)


@contextmanager
def _packed(info: ModelVersionInfo) -> Iterator[Path]:
    """Make a copy of the package, of the parts only that the model needs: MLflow stores folders."""
    source = Path(info.package)
    with tempfile.TemporaryDirectory(prefix="abo-vqa-") as temporary:
        package = Path(temporary) / source.name
        package.mkdir()
        for part in info.package_parts:
            if (source / part).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source / part, package / part, ignore=ignored)
            else:
                shutil.copy(source / part, package / part)
        yield package


def _release(library: str) -> str:
    """Return a library's version as package indexes know it: without a build's "+cpu"."""
    return metadata.version(library).partition("+")[0]


def _signature(info: ModelVersionInfo) -> ModelSignature:
    """Return the columns in and out; what comes in may be of any type (an image: text or bytes)."""
    inputs = Schema([ColSpec(AnyType(), name) for name in info.inputs])
    outputs = Schema([ColSpec("string", name) for name in info.outputs])
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


def _describe_version(client: MlflowClient, run: str, version: str, info: ModelVersionInfo) -> None:
    """Give a version its tags, aliases and description."""
    tags = {**info.tags, "experiment": _parent_name(client, run)}
    tags |= held_out_tags(info.held_out, info.correct)
    if not math.isnan(info.validation):
        tags["best_validation_accuracy"] = f"{info.validation:.6f}"
    for key, value in tags.items():
        client.set_model_version_tag(info.name, version, key, value)
    client.set_registered_model_alias(info.name, f"latest-{info.profile}", version)
    decision = appoint(client, info.name, version, info.profile, tags)
    if decision is None:  # decided by an attempt that failed afterwards
        recorded = client.get_model_version(info.name, version).tags
        decision = Decision(recorded["role"], recorded["decision"])
    lines = [info.description, "", *_validation_lines(info)]
    lines.append(f"{decision.role.capitalize()}: {decision.reason}.")
    client.update_model_version(info.name, version, description="\n".join(lines))
    if not client.get_registered_model(info.name).description:
        client.update_registered_model(info.name, _MODEL_NOTE.format(name=info.name))


def _validation_lines(info: ModelVersionInfo) -> list[str]:
    """Describe the accuracy on the held-out rows, with its interval."""
    if not info.correct:
        return []
    from abo_vqa.core.proportions import wilson_interval  # loads scipy

    right, rows = sum(info.correct), len(info.correct)
    low, high = (100 * bound for bound in wilson_interval(right, rows))
    return [
        f"Validation: {right / rows:.1%} of {rows:,} held-out rows (95% interval {low:.1f} to "
        f"{high:.1f})."
    ]


def _parent_name(client: MlflowClient, run: str) -> str:
    """Return the name of the invocation that a run belongs to."""
    tags = client.get_run(run).data.tags
    parent = tags.get("mlflow.parentRunId")
    return str(client.get_run(parent or run).info.run_name)


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
    maker = newest_run(client, experiment, {f"dvc.out.{output}": digest})
    if maker is None:
        return  # it was made elsewhere, or before runs were recorded here
    run = maker.info.run_id
    for key, value in metrics.items():
        client.log_metric(run, key, value)
    for model in client.search_model_versions(f"run_id = '{run}'"):
        for key, value in metrics.items():
            client.set_model_version_tag(model.name, model.version, f"test_{key}", f"{value:.6f}")
        if "accuracy" in metrics:
            text = (model.description or "").partition(_TEST)[0] + _TEST + _test_line(metrics)
            client.update_model_version(model.name, model.version, description=text)


def _test_line(metrics: Mapping[str, float]) -> str:
    """Describe the results on the test rows."""
    gain = metrics.get("gain_over_blind")
    over = "" if gain is None else f", {100 * gain:+.1f} points over the best blind baseline"
    return f"{metrics['accuracy']:.1%} of the test rows{over}."
