"""From a checkpoint's settings to weights on their device: whole, in the memory there is, or a
clear refusal."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from abo_vqa.core.devices import pick_device, pick_dtype
from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.memory import available_memory, out_of_memory, release_memory, remedy
from abo_vqa.core.paths import SAMPLE_MODELS
from abo_vqa.core.system_errors import refusal
from abo_vqa.models.base import VQAModel
from abo_vqa.models.hub import hub_options, is_repository, quiet, require_room

if TYPE_CHECKING:
    import torch

    from abo_vqa.config import CheckpointConfig, ComputeConfig

_BYTES = {"8bit": 1.0, "4bit": 0.5}  # a weight, quantised
# What libraries raise of a folder that isn't a checkpoint of theirs, or is damaged.
_UNREADABLE = (
    OSError, ValueError, RuntimeError, MemoryError, AttributeError, KeyError, TypeError,
)  # fmt: skip
_LONGEST = 300  # characters of what a library says
# How libraries say that weights don't fit the model they are put into.
_MISFIT = re.compile(r"state_dict|mismatch|PytorchStreamReader|pretrained", re.IGNORECASE)


def load_options(
    checkpoint: CheckpointConfig, compute: ComputeConfig, dtype: torch.dtype | None = None
) -> tuple[dict[str, Any], torch.device]:
    """Keyword arguments for `from_pretrained`, and the device the inputs go to.

    Args:
        dtype: of the weights, whatever the settings say.
    Raises:
        UserError: quantised weights are asked for where they can't be loaded.
    """
    device = pick_device(compute.device)
    options: dict[str, Any] = {
        "revision": checkpoint.revision,
        "dtype": dtype or pick_dtype(checkpoint, compute, device),
    }
    if checkpoint.device_map:
        options["device_map"] = checkpoint.device_map
    elif device.type != "cpu" or checkpoint.quantize:
        # Straight onto the card, a tensor at a time: a conversion of the whole in the machine's
        # own memory would take as much of that.
        options["device_map"] = {"": device}
    if checkpoint.quantize:
        options["quantization_config"] = _quantisation(checkpoint, device, options["dtype"])
    return options, device


def _quantisation(checkpoint: CheckpointConfig, device: torch.device, dtype: torch.dtype) -> Any:
    """The bitsandbytes configuration for 8 or 4 bits; computation in `dtype`."""
    if find_spec("bitsandbytes") is None:
        raise UserError(
            f"{checkpoint.path}: quantize is {checkpoint.quantize}, which needs bitsandbytes. "
            "Install it (`pip install 'abo-vqa[quant]'`) or set quantize to null."
        )
    from transformers import BitsAndBytesConfig

    if checkpoint.quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    if device.type != "cuda":  # bitsandbytes' kernels for a CPU take layers of some widths only
        raise UserError(
            f"{checkpoint.path}: quantize is 4bit, which needs a CUDA GPU, but the device is "
            f"{device}. Set quantize to 8bit or null."
        )
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def load_pretrained(
    loader: Any,
    checkpoint: CheckpointConfig,
    compute: ComputeConfig,
    dtype: torch.dtype | None = None,
    supported_settings: Collection[str] = VQAModel.supported_settings,
) -> tuple[Any, Any]:
    """Load weights with `loader.from_pretrained`, in evaluation mode on their device.

    Args:
        dtype: of the weights, whatever the settings say.
        memory_settings: see `VQAModel.supported_settings`.
    Returns:
        The model, and the device its inputs go to.
    Raises:
        UserError: the checkpoint is missing, isn't one of this class, lacks some of its weights,
            or takes more memory than there is.
    """
    quiet()
    options, device = load_options(checkpoint, compute, dtype)
    model = load_whole(loader, checkpoint, device, options, supported_settings=supported_settings)
    return model.eval().requires_grad_(False), device


def load_whole(
    loader: Any,
    checkpoint: CheckpointConfig,
    device: torch.device,
    options: dict[str, Any],
    optional: Collection[str] = (),
    supported_settings: Collection[str] = VQAModel.supported_settings,
) -> Any:
    """`loader.from_pretrained`, refusing to go on with weights that aren't there.

    Args:
        device: where the weights go, unless `options` spread them.
        options: further arguments of `from_pretrained`.
        optional: modules that nothing here uses, whose weights may be missing.
        memory_settings: see `VQAModel.supported_settings`.
    Raises:
        UserError: see `load_pretrained`.
    """
    path = checkpoint.path
    require_room(path, checkpoint.revision)
    options = {**options, **hub_options(path)}
    advice = too_large(checkpoint, device, options["dtype"], supported_settings)
    with refusals(checkpoint, advice):
        require_memory(loader, checkpoint, device, options, advice)
        model, found = loader.from_pretrained(path, output_loading_info=True, **options)
    missing = sorted(
        key for key in found["missing_keys"] if not any(f".{o}." in f".{key}" for o in optional)
    )
    mismatched = sorted(key for key, *_ in found["mismatched_keys"])
    if missing or mismatched:
        raise _incomplete(path, [*missing, *mismatched], sorted(found["unexpected_keys"]))
    return model


def _incomplete(path: str, missing: list[str], left: list[str]) -> UserError:
    """The refusal of a checkpoint that would be filled up with random numbers."""
    from transformers import __version__

    more = f" It holds {len(left)} that belong to no layer, e.g. {left[0]}." if left else ""
    return UserError(
        f"the checkpoint {path} lacks {len(missing)} of this model's weights, e.g. {missing[0]}."
        f"{more} Random numbers would stand in for them. It was made for another class of model, "
        f"or for a version of transformers that names layers otherwise (here: {__version__}; "
        "requirements.lock has the tested one)."
    )


def require_memory(
    loader: Any,
    checkpoint: CheckpointConfig,
    device: torch.device,
    options: dict[str, Any],
    advice: str,
) -> None:
    """Refuse weights that can't fit, before hours of work or the system's own end of the process.

    Raises:
        UserError: see above.
    """
    import torch

    if isinstance(options.get("device_map"), str):
        return  # spread over cards, the machine's memory and disk by accelerate
    needed = weight_bytes(loader, checkpoint, options)
    if device.type == "cuda":
        release_memory()  # what an earlier model left with torch isn't free for CUDA
        where, free = torch.cuda.get_device_name(device), torch.cuda.mem_get_info(device)[0]
    else:
        where, free = "this machine", available_memory()
    if needed > free:
        dtype = str(options["dtype"]).removeprefix("torch.")
        raise UserError(
            f"{checkpoint.path}: the weights take {needed / 1e9:.1f} GB in "
            f"{checkpoint.quantize or dtype}, and {where} has {free / 1e9:.1f} GB free. {advice}"
        )


def too_large(
    checkpoint: CheckpointConfig,
    device: torch.device,
    dtype: torch.dtype,
    supported_settings: Collection[str],
) -> str:
    """What to do about weights that don't fit into a device's memory."""
    return remedy(
        supported_settings,
        "this model",
        cuda=device.type == "cuda",
        dtype=str(dtype).removeprefix("torch."),
        quantize=checkpoint.quantize or "",
        device_map=checkpoint.device_map or "",
    )


def weight_bytes(loader: Any, checkpoint: CheckpointConfig, options: dict[str, Any]) -> float:
    """Bytes of a model's weights, counted without making any.

    With quantised ones, embeddings and norms count like the rest: a lower bound.
    """
    import torch
    from transformers import AutoConfig

    given = {key: options[key] for key in ("revision", "local_files_only") if key in options}
    config = AutoConfig.from_pretrained(checkpoint.path, **given)
    wanted = getattr(loader, "config_class", None)
    if wanted is not None and not isinstance(config, wanted):
        raise UserError(
            f"can't load the checkpoint {checkpoint.path}: it is a model of the type "
            f"{config.model_type}, and {wanted.model_type} is wanted here. "
            "Correct the path in the profile."
        )
    make = getattr(loader, "from_config", None) or loader
    with torch.device("meta"):
        model = make(config)
    each = _BYTES.get(checkpoint.quantize or "", options["dtype"].itemsize)
    return float(sum(parameter.numel() for parameter in model.parameters()) * each)


def load_processor(loader: Any, checkpoint: CheckpointConfig, **options: Any) -> Any:
    """Load a processor with `loader.from_pretrained`; a missing one is a UserError."""
    quiet()
    options |= {"revision": checkpoint.revision, **hub_options(checkpoint.path)}
    with refusals(checkpoint):
        return loader.from_pretrained(checkpoint.path, **options)


@contextmanager
def refusals(checkpoint: CheckpointConfig, advice: str = "") -> Iterator[None]:
    """Turn a library's failure to find, read or hold a checkpoint into one clear message.

    Args:
        advice: what to do where memory is too small for it.
    """
    from safetensors import SafetensorError

    path = checkpoint.path
    try:
        yield
    except (*_UNREADABLE, SafetensorError, UnpicklingError) as e:
        reason = f"{type(e).__name__}: {' '.join(str(e).split())[:_LONGEST]}".rstrip(": ")
        if out_of_memory(e):
            raise UserError(
                " ".join(
                    [f"{path}: out of memory while loading the weights.", advice, f"({reason})"]
                )
            ) from e
        if refusal(e) or (isinstance(e, RuntimeError) and not _MISFIT.search(str(e))):
            raise
        raise UserError(f"can't load the checkpoint {path}: {hint(path)}. ({reason})") from e


def hint(path: str) -> str:
    """Why a checkpoint's path may lead nowhere."""
    if Path(path).is_dir():
        return "the folder holds no checkpoint of this kind, or not all of it"
    if is_repository(path) and "/" in path:
        return "no folder of that name, not in the local cache, and not to be had from the hub"
    if Path(path).is_relative_to(SAMPLE_MODELS):
        return "no folder of that name; `dvc pull` fetches the sample's, `make sample` makes them"
    more = "; ~ stands for itself here, write the whole path" if path.startswith("~") else ""
    return f"no folder of that name; correct the path in the profile{more}"


def identity(checkpoint: CheckpointConfig) -> str:
    """What tells these weights from others: a hub id and revision, or the local files' hashes."""
    folder = Path(checkpoint.path)
    if not folder.is_dir():
        return f"{checkpoint.path}@{checkpoint.revision or 'main'}"
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return " ".join(f"{p.relative_to(folder).as_posix()}:{file_md5(p)}" for p in files)


def describe(checkpoint: CheckpointConfig, model: Any) -> dict[str, Any]:
    """The part of a record that all families share."""
    held: dict[Any, int] = {}
    for parameter in model.parameters():  # some modules are kept in float32, others quantised
        if not parameter.is_floating_point():
            continue
        held[parameter.dtype] = held.get(parameter.dtype, 0) + parameter.numel()
    dtype = max(held, key=lambda d: held[d])
    return {
        "path": checkpoint.path,
        "revision": checkpoint.revision or "",
        "dtype": str(dtype).removeprefix("torch."),
        "quantize": checkpoint.quantize or "",
        "device_map": checkpoint.device_map or "",
        "device": device_name(next(model.parameters()).device),
    }


def device_name(device: torch.device) -> str:
    """A card's name, or "cpu"."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
