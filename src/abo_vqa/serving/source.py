"""Which model is served: one of the profile, this checkout's adapter, or a registered version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.paths import FINETUNED_MODELS
from abo_vqa.core.scratch import cache
from abo_vqa.models.registry import checkpoint_of, require_model

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

_REGISTERED = "models:/"
_ADAPTER = "adapter"  # the artifact's name in a registered version


@dataclass(frozen=True)
class ModelSource:
    """A model, as found at one moment.

    Attributes:
        name: what clients are told.
        version: tells its weights from others.
        adapter: the PEFT folder; "" for a model without one.
        settings: what a registered version stores with its adapter; None: the profile has it.
        base: where a registered version's base is stored; None: where its adapter says.
    """

    name: str
    version: str
    adapter: str = ""
    settings: Mapping[str, Any] | None = field(default=None)
    base: str | None = None


def resolve_source(reference: str, adapter: Path, config: Config) -> ModelSource:
    """Find a model, without loading it.

    Args:
        reference: a name under models in the profile, "finetuned", "finetuned-ranked", or
            "models:/NAME@ALIAS" or "models:/NAME/VERSION" for one in MLflow's registry.
        adapter: the PEFT folder of the fine-tuned model.
        config: the settings.

    Raises:
        UserError: there is no such model.
    """
    if reference.startswith(_REGISTERED):
        return _registered(reference)
    require_model(reference, config, FINETUNED_MODELS)
    if reference in FINETUNED_MODELS:
        _check_adapter(adapter)
        return ModelSource(reference, _adapter_version(adapter), str(adapter.resolve()))
    checkpoint = checkpoint_of(reference, config)
    return ModelSource(reference, f"{checkpoint.path}@{checkpoint.revision or 'local'}")


def _check_adapter(folder: Path) -> None:
    """Refuse a folder without an adapter; whether it fits is known when it is loaded.

    Raises:
        UserError: there is none.
    """
    if not (folder / "adapter_config.json").is_file():
        raise UserError(
            f"no adapter in {folder} (adapter_config.json is missing): run the stage `finetune`, "
            "or choose another adapter with --adapter."
        )


def _adapter_version(adapter: Path) -> str:
    hashes = "".join(file_md5(file) for file in sorted(adapter.glob("adapter_*")))
    return f"adapter-{_short(hashes)}"


def _short(text: str) -> str:
    import hashlib

    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:12]


def _registered(reference: str) -> ModelSource:
    """Fetch a registered version's adapter and settings.

    Raises:
        UserError: it isn't there, or can't be fetched.
    """
    # Only here: MLflow takes seconds to import, and a model of the profile doesn't need it.
    import mlflow
    from mlflow.exceptions import MlflowException

    from abo_vqa.core.tracking.backend import connect

    client = connect()
    try:
        name, version = _version(client, reference)
        folder = cache("serve", f"{name}-{version}")
        local = Path(
            mlflow.artifacts.download_artifacts(f"{_REGISTERED}{name}/{version}", dst_path=folder)
        )
        flavor = mlflow.models.Model.load(str(local)).flavors["python_function"]
        settings = dict(flavor.get("config") or {})
        base = settings.pop("base", None)
        if base is not None:
            base = mlflow.artifacts.download_artifacts(base, dst_path=cache("serve", _short(base)))
    except (MlflowException, OSError, KeyError) as error:
        raise UserError(f"can't get {reference} from MLflow: {first_line(error)}.") from error
    path = flavor.get("artifacts", {}).get(_ADAPTER, {}).get("path")
    if path is None:
        raise UserError(f"{reference} has no adapter: `abo-vqa` serves the versions it registered.")
    _check_adapter(local / path)
    return ModelSource(name, str(version), str((local / path).resolve()), settings, base)


def _version(client: Any, reference: str) -> tuple[str, str]:
    """Return the name and the number of the version that a reference means now."""
    target = reference.removeprefix(_REGISTERED)
    name, at, alias = target.partition("@")
    if at:
        return name, str(client.get_model_version_by_alias(name, alias).version)
    name, slash, version = target.partition("/")
    if not slash or not version.isdigit():
        raise UserError(
            f"--model: found {reference}; a registered model is models:/NAME@ALIAS or "
            "models:/NAME/VERSION."
        )
    return name, str(client.get_model_version(name, version).version)
