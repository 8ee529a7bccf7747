"""PEFT adapters, this pipeline's and others': reading, checking and merging them.

A merged layer gives the same answers as the layer and its adapter. Layers that share a weight, as
BLIP's word embeddings and output layer do, get a weight each before: otherwise what is added to one
layer would change the other, which was trained without it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.log import get_logger
from abo_vqa.core.memory import out_of_memory
from abo_vqa.models.identity import same_checkpoint
from abo_vqa.models.torch_files import DamagedFileError, load_tensors

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from abo_vqa.core.config import CheckpointConfig

logger = get_logger(__name__)

_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_POINTER = b"version https://git-lfs"  # the beginning of a file that Git LFS hasn't fetched
_MAX_REASON = 300  # characters of a library's message


@dataclass(frozen=True)
class Adapter:
    """A PEFT folder whose files exist and can be read.

    Attributes:
        folder: the folder.
        base: the checkpoint that it was made for, by the name its maker used; None: unknown.
        revision: the checkpoint's revision; None: unknown.
        names: the names of its tensors.
    """

    folder: Path
    base: str | None
    revision: str | None
    names: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        """Read a folder's configuration and the names of its tensors.

        Args:
            folder: a PEFT folder.

        Raises:
            UserError: a file is missing or isn't what its name says.
        """
        config = folder / _CONFIG
        if not config.is_file():
            raise UserError(
                f"no adapter in {folder} ({_CONFIG} is missing): "
                "run the stage `finetune`, or choose another adapter with --adapter."
            )
        _refuse_pointer(config)
        try:
            settings = json.loads(config.read_text(encoding="utf-8"))
            base, revision = settings.get("base_model_name_or_path"), settings.get("revision")
        except (ValueError, AttributeError) as error:
            raise UserError(f"{config} isn't a PEFT adapter's description: {error}") from error
        weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
        if weights is None:
            raise UserError(
                f"the adapter in {folder} has no weights ({' or '.join(_WEIGHTS)}): only its "
                "description is there. Fetch or copy the whole folder."
            )
        return cls(folder, base or None, revision or None, _tensor_names(weights))

    def changes_vision(self, vision_modules: Collection[str]) -> bool:
        """Return whether it changes the vision part, whose stored outputs then can't be used.

        Args:
            vision_modules: see `PretrainedVQAModel`.
        """
        return any(is_vision(name, vision_modules) for name in self.names)

    def check_base(
        self,
        checkpoint: CheckpointConfig,
        setting: str = "its path",
        advice: str = "",
    ) -> None:
        """Compare the base it was made for with a checkpoint, and warn if that is impossible.

        Args:
            checkpoint: the checkpoint's settings.
            setting: where the checkpoint was chosen, e.g. "models.blip.path".
            advice: how to choose the adapter's own base there; "" for a setting of the profile.

        Raises:
            UserError: it was made for another base.
        """
        if self.base is None:
            logger.warning(
                f"the adapter in {self.folder} doesn't say which base it was made for: "
                f"taking {checkpoint.path}."
            )
        elif not same_checkpoint(self.base, checkpoint.path):
            advice = advice or f"Set lora.model to the model of this base, or {setting} to the base"
            raise UserError(
                f"the adapter in {self.folder} was made for {self.base}, but {setting} is "
                f"{checkpoint.path}: with another base model its answers would be meaningless. "
                f"{advice}; "
                "or, if both are the same weights, set base_model_name_or_path in "
                f"{self.folder / _CONFIG} to {checkpoint.path}."
            )
        elif self.revision and checkpoint.revision and self.revision != checkpoint.revision:
            logger.warning(
                f"the adapter in {self.folder} was made for revision {self.revision} of "
                f"{self.base}; here it is {checkpoint.revision}."
            )

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """Merge the adapter into a model's weights.

        Args:
            model: the base model, which is changed.

        Returns:
            The merged model, in float32.

        Raises:
            UserError: the adapter doesn't fit the model.
        """
        with self._loading_errors():
            model = model.float()
        adapted = self._adapt(model)
        with self._loading_errors():
            _untie(adapted)
            return adapted.merge_and_unload()

    def attach(self, model: PreTrainedModel) -> PreTrainedModel:
        """Add the adapter's layers beside a model's weights, as quantised weights need it.

        Args:
            model: the base model, which is changed.

        Returns:
            The model with the adapter's layers.

        Raises:
            UserError: the adapter doesn't fit the model.
        """
        return self._adapt(model).get_base_model()

    def _adapt(self, model: PreTrainedModel) -> PeftModel:
        """Wrap a model, with all of the adapter's weights in their layers."""
        # Only here: it takes seconds to import, and most models have no adapter.
        from peft import PeftConfig, PeftModel, get_peft_model_state_dict

        with self._loading_errors(), warnings.catch_warnings():
            # PEFT only warns about weights that it doesn't find; the answers would be the base's.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            config = PeftConfig.from_pretrained(str(self.folder))
            # A task's wrapper expects a head of its kind, e.g. qa_outputs for extractive question
            # answering, which BLIP doesn't have. The layers are the same without it.
            config.task_type = None
            if saved := getattr(config, "modules_to_save", None):
                config.modules_to_save = [m for m in saved if self._has_module(m)] or None
            adapted = PeftModel.from_pretrained(
                model, str(self.folder), config=config, torch_device=str(model.device)
            )
        self._check_names(get_peft_model_state_dict(adapted))
        return adapted

    def _has_module(self, module: str) -> bool:
        """Return whether the file has weights of a module."""
        return any(f".{module}." in f".{name}" for name in self.names)

    def _check_names(self, layers: Iterable[str]) -> None:
        """Refuse weights that belong to no layer: PEFT ignores them silently.

        Args:
            layers: the names of the adapted model's own adapter weights.
        """
        known = {_without_suffix(name) for name in layers}
        unknown = [name for name in self.names if _without_suffix(name) not in known]
        if unknown:
            raise UserError(
                f"{len(unknown)} of {len(self.names)} weights of the adapter in {self.folder} "
                f"belong to no layer of this model, e.g. {unknown[0]}. It was made for another base"
                f"{self._named_base}."
            )

    @property
    def _named_base(self) -> str:
        return f" ({self.base})" if self.base else ""

    @contextmanager
    def _loading_errors(self) -> Iterator[None]:
        """Turn PEFT's ways of saying that an adapter doesn't fit into one message."""
        try:
            yield
        except (ValueError, TypeError, KeyError, RuntimeError, AttributeError, Warning) as error:
            if out_of_memory(error):
                raise UserError(
                    f"out of memory while loading the adapter in {self.folder} ({error}). "
                    "Stop other programs that use this memory, or use a device with more of it."
                ) from error
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = next((line for line in lines if "size mismatch" in line), (lines or ["?"])[0])
            raise UserError(
                f"the adapter in {self.folder} doesn't fit this model; it was made for another "
                f"base{self._named_base} or another version of PEFT. ({reason[:_MAX_REASON]})"
            ) from error


def is_vision(name: str, vision_modules: Collection[str]) -> bool:
    """Return whether a layer or a weight is a vision module or a part of one.

    Args:
        name: its full name.
        vision_modules: see `PretrainedVQAModel`.
    """
    return any(f".{module}." in f".{name}." for module in vision_modules)


def _refuse_pointer(file: Path) -> None:
    """Refuse a file that Git LFS hasn't fetched."""
    with file.open("rb") as handle:
        if handle.read(len(_POINTER)) == _POINTER:
            raise UserError(
                f"{file} is a Git LFS pointer, not the file itself. Run `git lfs pull` where it "
                "comes from, and copy it again."
            )


def _tensor_names(weights: Path) -> tuple[str, ...]:
    """Return the names of the tensors in a file.

    Raises:
        UserError: it can't be read.
    """
    _refuse_pointer(weights)
    try:
        if weights.suffix == ".safetensors":
            with safe_open(weights, "pt") as file:
                names = tuple(file.keys())
        else:
            names = tuple(load_tensors(weights, "meta"))
            if not all(isinstance(name, str) for name in names):
                raise TypeError("it holds no named tensors")
    except (SafetensorError, OSError, TypeError, DamagedFileError) as error:
        reason = first_line(error)
        raise UserError(f"{weights} is damaged or incomplete ({reason}). Copy it again.") from error
    if not names:
        raise UserError(f"{weights} holds no weights. Copy it again.")
    return names


def _without_suffix(name: str) -> str:
    """Return a tensor's name as all versions of PEFT know it."""
    return name.removesuffix(".weight")


def _untie(model: PeftModel) -> None:
    """Give each layer weights of its own if one with an adapter shares some with others.

    The model's configuration is changed accordingly, so that all of them are saved and loaded: it
    ties all shared weights or none, so a bias that layers share is copied as well.
    """
    names_of: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names_of.setdefault(id(parameter), []).append(name)
    shared = [names for names in names_of.values() if len(names) > 1]
    if not any(".base_layer." in name for names in shared for name in names):
        return
    for name in (name for names in shared for name in names[1:]):
        owner, _, leaf = name.rpartition(".")
        weight = getattr(model.get_submodule(owner), leaf)
        copy = torch.nn.Parameter(weight.detach().clone(), weight.requires_grad)
        setattr(model.get_submodule(owner), leaf, copy)
    config = model.get_base_model().config
    for part in (config, *(getattr(config, name) for name in config.sub_configs)):
        if hasattr(part, "tie_word_embeddings"):
            part.tie_word_embeddings = False
