"""PEFT adapters, this pipeline's and others': what is in the folder, whose they are, merging.

A merged layer answers as the layer and its adapter did. Where a layer's weight is shared, which
BLIP's word embeddings and output layer do, each gets its own before: what is added to one would
change the other, which was trained without it.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.memory import out_of_memory

if TYPE_CHECKING:
    from abo_vqa.config import CheckpointConfig

_DESCRIPTION = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_POINTER = b"version https://git-lfs"  # how a file begins that Git LFS hasn't fetched


@dataclass(frozen=True)
class Adapter:
    """A PEFT folder whose files are there and can be read.

    Attributes:
        base: the checkpoint that it was made for, as its maker called it; None: not said.
        names: of its tensors.
    """

    folder: Path
    base: str | None
    revision: str | None
    names: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        """Look through a folder, without loading what is large.

        Raises:
            UserError: a file is missing or isn't what its name says.
        """
        described = folder / _DESCRIPTION
        if not described.is_file():
            raise UserError(
                f"no adapter in {folder} ({_DESCRIPTION} is missing): "
                "run the stage `finetune`, or name another with --adapter."
            )
        _refuse_pointer(described)
        try:
            settings = json.loads(described.read_text(encoding="utf-8"))
            base, revision = settings.get("base_model_name_or_path"), settings.get("revision")
        except (ValueError, AttributeError) as error:
            raise UserError(f"{described} isn't a PEFT adapter's description: {error}") from error
        weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
        if weights is None:
            raise UserError(
                f"the adapter in {folder} has no weights ({' or '.join(_WEIGHTS)}): only its "
                "description is there. Fetch or copy the whole folder."
            )
        return cls(folder, base or None, revision or None, _tensor_names(weights))

    @property
    def changes_vision(self) -> bool:
        """Whether there are weights for the vision tower, whose kept outputs are then of no use."""
        return any("vision_model." in name for name in self.names)

    def check_base(self, checkpoint: CheckpointConfig) -> None:
        """Compare the base it was made for with a checkpoint; say so where nobody can tell.

        Raises:
            UserError: it was made for another base.
        """
        if self.base is None:
            print(
                f"the adapter in {self.folder} doesn't say which base it was made for: "
                f"taking {checkpoint.path}.",
                file=sys.stderr,
            )
        elif not same_checkpoint(self.base, checkpoint.path):
            raise UserError(
                f"the adapter in {self.folder} was made for {self.base}, but models.blip.path is "
                f"{checkpoint.path}: on another base its answers mean nothing. Set "
                "models.blip.path in the profile to the adapter's base, or, if both are the same "
                f"weights, base_model_name_or_path in {self.folder / _DESCRIPTION}."
            )
        elif self.revision and checkpoint.revision and self.revision != checkpoint.revision:
            print(
                f"the adapter in {self.folder} was made for revision {self.revision} of "
                f"{self.base}; models.blip.revision is {checkpoint.revision}.",
                file=sys.stderr,
            )

    def merge(self, model: Any) -> Any:
        """The model, in float32, with the adapter merged into its weights.

        Raises:
            UserError: the adapter doesn't fit the model.
        """
        with self.refusals():
            whole = model.float()
        adapted = self.adapted(whole)
        with self.refusals():
            _untie(adapted)
            return adapted.merge_and_unload()

    def attach(self, model: Any) -> Any:
        """The model with the adapter beside its weights, which stay as they are: quantised ones
        have no room for what is added to them.

        Raises:
            UserError: the adapter doesn't fit the model.
        """
        return self.adapted(model).get_base_model()

    def adapted(self, model: Any) -> Any:
        """PEFT's model around one, all of the adapter's weights in their places."""
        from peft import PeftConfig, PeftModel

        with self.refusals(), warnings.catch_warnings():
            # PEFT only warns of weights that it didn't find, and would answer like the base.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            config = PeftConfig.from_pretrained(str(self.folder))
            # A task's wrapper expects a head of its kind: extractive question answering one called
            # qa_outputs, which BLIP hasn't. The layers are the same without.
            config.task_type = None
            if saved := getattr(config, "modules_to_save", None):
                config.modules_to_save = [m for m in saved if self.holds(m)] or None
            adapted = PeftModel.from_pretrained(
                model, str(self.folder), config=config, torch_device=str(model.device)
            )
        self.check_names(adapted)
        return adapted

    def holds(self, module: str) -> bool:
        """Whether there are weights of a module in the file."""
        return any(f".{module}." in f".{name}" for name in self.names)

    def check_names(self, adapted: Any) -> None:
        """Refuse weights that found no layer: PEFT leaves them out without a word."""
        from peft import get_peft_model_state_dict

        known = {plain(name) for name in get_peft_model_state_dict(adapted)}
        left = [name for name in self.names if plain(name) not in known]
        if left:
            raise UserError(
                f"{len(left)} of {len(self.names)} weights of the adapter in {self.folder} belong "
                f"to no layer of this model, e.g. {left[0]}. It was made for another base"
                f"{self.named_base}."
            )

    @property
    def named_base(self) -> str:
        return f" ({self.base})" if self.base else ""

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Turn PEFT's ways of saying that an adapter doesn't fit into one message."""
        try:
            yield
        except (ValueError, TypeError, KeyError, RuntimeError, AttributeError, Warning) as error:
            if out_of_memory(error):
                raise UserError(
                    f"out of memory while loading the adapter in {self.folder} ({error}). "
                    "Stop what else uses this memory, or take a device with more of it."
                ) from error
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            why = next((line for line in lines if "size mismatch" in line), (lines or ["?"])[0])
            raise UserError(
                f"the adapter in {self.folder} doesn't fit this model; it was made for another "
                f"base{self.named_base} or another version of PEFT. ({why[:300]})"
            ) from error


def _refuse_pointer(file: Path) -> None:
    """Refuse what Git LFS left in a file's place."""
    with file.open("rb") as handle:
        if handle.read(len(_POINTER)) == _POINTER:
            raise UserError(
                f"{file} is a Git LFS pointer, not the file itself. Run `git lfs pull` where it "
                "comes from, and copy it again."
            )


def _tensor_names(weights: Path) -> tuple[str, ...]:
    """The names of the tensors in a file of weights.

    Raises:
        UserError: it can't be read.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    _refuse_pointer(weights)
    try:
        if weights.suffix == ".safetensors":
            with safe_open(weights, "pt") as opened:
                names = tuple(opened.keys())
        else:
            names = tuple(torch.load(weights, map_location="meta", weights_only=True))
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError, TypeError) as error:
        why = str(error).strip().partition("\n")[0]
        raise UserError(f"{weights} is damaged or incomplete ({why}). Copy it again.") from error
    if not names:
        raise UserError(f"{weights} holds no weights. Copy it again.")
    return names


def plain(name: str) -> str:
    """A tensor's name as all versions of PEFT know it."""
    return name.removesuffix(".weight")


def same_checkpoint(one: str, other: str) -> bool:
    """Whether two names mean the same weights: equal, one place, or folders of equal files."""
    from abo_vqa.config import CheckpointConfig
    from abo_vqa.models.loading import identity

    if one == other:
        return True
    folders = [Path(name) for name in (one, other) if Path(name).is_dir()]
    if len(folders) < 2:
        return False
    if folders[0].resolve() == folders[1].resolve():
        return True
    first, second = (identity(CheckpointConfig(path=str(folder))) for folder in folders)
    return first == second


def _untie(model: Any) -> None:
    """Give each layer weights of its own if one with an adapter shares some with others.

    The model's configuration says so, so that it is saved and loaded with all of them: it ties all
    shared weights or none, hence a bias that layers share is copied along.
    """
    import torch

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
