"""Checks of weights: here at the pinned revision, or still to be fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.commands.doctor.files import agreement
from abo_vqa.commands.doctor.findings import (
    Checkout,
    Finding,
    NotCheckedError,
    ok,
    problem,
    warning,
)
from abo_vqa.commands.doctor.folders import missing_weights
from abo_vqa.commands.doctor.machine import need
from abo_vqa.core.local_annotator import LOCAL
from abo_vqa.core.system_errors import nearest_existing
from abo_vqa.core.units import GB, format_bytes
from abo_vqa.models.embeddings.builder import device_of
from abo_vqa.models.hub import WEIGHT_FILES, is_repository
from abo_vqa.models.registry import checkpoint_key

if TYPE_CHECKING:
    from abo_vqa.core.config import CheckpointConfig, Config, ScorerConfig

# What the loaders fetch of the profile abo's repositories, in bytes: known without asking the hub.
SIZES = {
    "Salesforce/blip-vqa-base": 1.54 * GB,
    "Salesforce/blip2-opt-2.7b": 15.0 * GB,
    "timm/vit_base_patch32_clip_224.openai": 0.61 * GB,
    "llava-hf/llava-1.5-7b-hf": 14.1 * GB,
    "dandelin/vilt-b32-finetuned-vqa": 0.47 * GB,
    "google/paligemma-3b-mix-224": 11.7 * GB,
    "Qwen/Qwen2.5-VL-3B-Instruct": 7.52 * GB,
    "HuggingFaceTB/SmolVLM-256M-Instruct": 0.51 * GB,
    "roberta-large": 1.42 * GB,
    "facebook/bart-large-cnn": 1.63 * GB,
}


@dataclass(frozen=True)
class LocalWeights:
    """What is here of some weights.

    Attributes:
        files: those that hold weights.
        missing: further ones that are named and aren't here.
    """

    files: tuple[Path, ...]
    missing: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the weights can be loaded."""
        return bool(self.files) and not self.missing

    @property
    def bytes(self) -> int:
        """The size of what is here."""
        return sum(file.stat().st_size for file in self.files)


def find_local_weights(source: CheckpointConfig | ScorerConfig) -> LocalWeights:
    """Find the weights' files in a local folder, or in the hub's cache at the pinned revision.

    Args:
        source: the model's or scorer's settings.
    """
    places = {name: _local_file(source, name) for name in WEIGHT_FILES}
    for name, file in places.items():
        if file is None:
            continue
        if not name.endswith(".index.json"):
            return LocalWeights((file,))
        shards = set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
        parts = {shard: _local_file(source, shard) for shard in sorted(shards)}
        return LocalWeights(
            tuple(part for part in parts.values() if part is not None),
            tuple(shard for shard, part in parts.items() if part is None),
        )
    return LocalWeights(())


def _local_file(source: CheckpointConfig | ScorerConfig, name: str) -> Path | None:
    """Return a file of some weights on this machine, None if it isn't here."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if not is_repository(source.path):
        file = Path(source.path) / name
        return file if file.is_file() else None
    try:
        cached = try_to_load_from_cache(source.path, name, revision=source.revision)
    except HFValidationError:  # no repository can be called so
        return None
    return Path(cached) if isinstance(cached, str) and Path(cached).is_file() else None


def from_hub(source: CheckpointConfig | ScorerConfig) -> bool:
    """Tell whether weights come from the model hub.

    A path like mine/x that doesn't exist may mean a folder as well, so a repository has a revision
    or a size that is known.

    Args:
        source: the model's or scorer's settings.
    """
    return is_repository(source.path) and (bool(source.revision) or source.path in SIZES)


def sources(config: Config) -> dict[str, CheckpointConfig | ScorerConfig]:
    """List the weights that the profile's stages load, by name.

    Args:
        config: the settings.
    """
    named = [*config.baselines.models, "blip", config.lora.model]  # `embed` always runs BLIP's
    if config.generate.annotator == LOCAL:
        named.append(config.generate.model)
    used = {checkpoint_key(name) for name in named}
    models = {
        key: checkpoint
        for key, checkpoint in config.models
        if key in used and not checkpoint.endpoint
    }
    return {**models, **dict(config.scorers)}


def weights(case: Checkout) -> Iterator[Finding]:
    """Check each model's and scorer's weights, and room for what is still to be fetched.

    Args:
        case: the checkout.
    """
    checkpoints = sources(case.settings)
    folders: set[Path] = set()
    for name, source in checkpoints.items():
        here = find_local_weights(source)
        if here.complete:
            revision = f" at {source.revision[:12]}" if source.revision else ""
            yield ok(name, f"{source.path}{revision}, {format_bytes(here.bytes)}")
        elif from_hub(source):
            yield _to_fetch(name, source, here, case.offline)
        else:
            yield missing_weights(name, source, here.missing, case)
        if here.complete and Path(source.path).is_dir():
            folders.add(Path(source.path).parent)
    for folder in sorted(folders):
        yield agreement("pinned", case, folder)
    if missing := [
        s for s in checkpoints.values() if from_hub(s) and not find_local_weights(s).complete
    ]:
        yield _room(missing, case)


def require(source: CheckpointConfig | ScorerConfig, case: Checkout) -> None:
    """Check that a model's weights are here: nothing is fetched to try it.

    Args:
        source: the model's settings.
        case: the checkout.

    Raises:
        NotCheckedError: They aren't, which `weights` reports as well.
    """
    if find_local_weights(source).complete:
        return
    if not from_hub(source) or case.offline:
        raise NotCheckedError("not tried: its weights aren't here", "See weights, above.")
    raise NotCheckedError(
        "not tried: its weights aren't here yet",
        "The first stage that needs them fetches them; `abo-vqa doctor` never does.",
    )


def _to_fetch(
    name: str, source: CheckpointConfig | ScorerConfig, here: LocalWeights, offline: bool
) -> Finding:
    """Return the warning about weights of the hub that the first use will fetch."""
    needed = SIZES.get(source.path)
    much = format_bytes(needed) if needed else "an unknown amount"
    if here.missing:
        what = f"{source.path}: {len(here.missing)} of its files are missing"
    else:
        what = f"{source.path}: weights aren't here yet"
    numbers = {"bytes": needed} if needed else {}
    if offline:
        return warning(name, f"{what} (up to {much})", "See model hub, below.", numbers)
    return warning(
        name,
        f"{what}: up to {much} will be fetched at first use",
        "On a machine without network access, copy another machine's cache (docs/doctor.md).",
        numbers,
    )


def _room(missing: list[CheckpointConfig | ScorerConfig], case: Checkout) -> Finding:
    """Check that the hub's cache has room for missing weights.

    What the stages will write into a checkout on the same disk counts as well.
    """
    import shutil

    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(nearest_existing(folder)).free
    needed = sum(SIZES.get(s.path, 0.0) for s in missing)
    message = f"{free / GB:.1f} GB free in {folder}, {needed / GB:.1f} GB to be fetched"
    numbers = {"free_bytes": float(free), "needed_bytes": needed}
    if _same_disk(folder, case.root) and (beside := _in_checkout(case)):
        needed += beside
        message += (
            f"; the checkout, on the same disk, needs {beside / GB:.1f} GB: "
            f"{needed / GB:.1f} GB together"
        )
        numbers["together_bytes"] = needed
    if needed <= free:
        return ok("hub cache", message, numbers)
    advice = (
        f"Make {(needed - free) / GB:.0f} GB of room, or set HF_HOME to a folder on another disk."
    )
    return problem("hub cache", message, advice, numbers)


def _same_disk(one: Path, other: Path) -> bool:
    """Tell whether two folders, which needn't exist yet, are on one disk."""
    return device_of(one) == device_of(other)


def _in_checkout(case: Checkout) -> float:
    """Return the bytes that the stages will still write; 0 if unknown, see `machine.disk`."""
    try:
        return need(case)[1]
    except Exception:  # of DVC, about its configuration
        return 0.0
