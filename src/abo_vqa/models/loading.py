"""Load a checkpoint's weights onto their device, or fail with a clear message.

`from_pretrained` fills missing weights with random numbers, and runs out of memory late; here
incomplete checkpoints and weights that don't fit are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoConfig, BitsAndBytesConfig, __version__

from abo_vqa.core.devices import pick_device, pick_dtype
from abo_vqa.core.errors import UserError
from abo_vqa.core.memory import available_memory, memory_advice, release_memory
from abo_vqa.models.base import VQAModel
from abo_vqa.models.hub import hub_options, require_disk_space, silence_libraries
from abo_vqa.models.loading_errors import loading_errors

if TYPE_CHECKING:
    from abo_vqa.core.config import CheckpointConfig, ComputeConfig

_BYTES = {"8bit": 1.0, "4bit": 0.5}  # per quantised weight


def load_options(
    checkpoint: CheckpointConfig, compute: ComputeConfig, dtype: torch.dtype | None = None
) -> tuple[dict[str, Any], torch.device]:
    """Build the keyword arguments of `from_pretrained`.

    Args:
        checkpoint: the checkpoint's settings.
        compute: the device and the default dtype.
        dtype: overrides the dtype of the settings.

    Returns:
        The arguments, and the device that inputs go to.

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
        # Straight onto the GPU, one tensor at a time: converting all of them in host memory first
        # would take as much of that.
        options["device_map"] = {"": device}
    if checkpoint.quantize:
        options["quantization_config"] = _quantization_config(checkpoint, device, options["dtype"])
    return options, device


def _quantization_config(
    checkpoint: CheckpointConfig, device: torch.device, dtype: torch.dtype
) -> BitsAndBytesConfig:
    """Build the configuration for 8 or 4 bits, with computation in `dtype`."""
    if find_spec("bitsandbytes") is None:
        raise UserError(
            f"{checkpoint.path}: quantize is {checkpoint.quantize}, which needs bitsandbytes. "
            "Run `make setup EXTRAS=quant` or set quantize to null."
        )
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
) -> tuple[Any, torch.device]:
    """Load a model of transformers onto its device, in evaluation mode.

    Args:
        loader: a class with `from_pretrained`.
        checkpoint: the checkpoint's settings.
        compute: the device and the default dtype.
        dtype: overrides the dtype of the settings.
        supported_settings: see `VQAModel.supported_settings`; for advice.

    Returns:
        The model, and the device that its inputs go to.

    Raises:
        UserError: the checkpoint is missing, isn't one of this class, lacks some of its weights,
            or doesn't fit into memory.
    """
    silence_libraries()
    options, device = load_options(checkpoint, compute, dtype)
    model = load_complete(
        loader, checkpoint, device, options, supported_settings=supported_settings
    )
    return model.eval().requires_grad_(False), device


def load_complete(
    loader: Any,
    checkpoint: CheckpointConfig,
    device: torch.device,
    options: dict[str, Any],
    optional: Collection[str] = (),
    supported_settings: Collection[str] = VQAModel.supported_settings,
) -> Any:
    """Call `loader.from_pretrained`, and refuse a checkpoint that lacks weights.

    Args:
        loader: a class with `from_pretrained`.
        checkpoint: the checkpoint's settings.
        device: where the weights go, unless `options` spread them.
        options: further arguments of `from_pretrained`.
        optional: unused modules whose weights may be missing.
        supported_settings: see `VQAModel.supported_settings`; for advice.

    Returns:
        The model.

    Raises:
        UserError: see `load_pretrained`.
    """
    path = checkpoint.path
    require_disk_space(path, checkpoint.revision)
    options = {**options, **hub_options(path)}
    advice = out_of_memory_advice(checkpoint, device, options["dtype"], supported_settings)
    with loading_errors(checkpoint, advice):
        require_memory(loader, checkpoint, device, options, advice)
        model, info = loader.from_pretrained(path, output_loading_info=True, **options)
    missing = sorted(
        key for key in info["missing_keys"] if not any(f".{o}." in f".{key}" for o in optional)
    )
    mismatched = sorted(key for key, *_ in info["mismatched_keys"])
    if missing or mismatched:
        raise _incomplete(path, [*missing, *mismatched], sorted(info["unexpected_keys"]))
    return model


def _incomplete(path: str, missing: list[str], unexpected: list[str]) -> UserError:
    """Return the error for a checkpoint that would be completed with random numbers."""
    more = ""
    if unexpected:
        more = f" It holds {len(unexpected)} that belong to no layer, e.g. {unexpected[0]}."
    return UserError(
        f"the checkpoint {path} lacks {len(missing)} of this model's weights, e.g. {missing[0]}."
        f"{more} They would be initialised randomly. It was made for another model class, "
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
    """Refuse weights that can't fit, before the system kills the process.

    Args:
        loader: a class with `from_pretrained`.
        checkpoint: the checkpoint's settings.
        device: where the weights go.
        options: the arguments of `from_pretrained`.
        advice: ends the message.

    Raises:
        UserError: they take more memory than is free.
    """
    if isinstance(options.get("device_map"), str):
        return  # accelerate spreads them over GPUs, host memory and disk
    needed = weight_bytes(loader, checkpoint, options)
    if device.type == "cuda":
        release_memory()  # what torch keeps of an earlier model isn't free for CUDA
        where, free = torch.cuda.get_device_name(device), torch.cuda.mem_get_info(device)[0]
    else:
        where, free = "this machine", available_memory()
    if needed > free:
        dtype = str(options["dtype"]).removeprefix("torch.")
        raise UserError(
            f"{checkpoint.path}: the weights take {needed / 1e9:.1f} GB in "
            f"{checkpoint.quantize or dtype}, and {where} has {free / 1e9:.1f} GB free. {advice}"
        )


def out_of_memory_advice(
    checkpoint: CheckpointConfig,
    device: torch.device,
    dtype: torch.dtype,
    supported_settings: Collection[str],
) -> str:
    """Return what to do about weights that don't fit into a device's memory.

    Args:
        checkpoint: the checkpoint's settings.
        device: where the weights go.
        dtype: the weights' dtype.
        supported_settings: see `VQAModel.supported_settings`.
    """
    return memory_advice(
        supported_settings,
        "this model",
        cuda=device.type == "cuda",
        dtype=str(dtype).removeprefix("torch."),
        quantize=checkpoint.quantize or "",
        device_map=checkpoint.device_map or "",
    )


def weight_bytes(loader: Any, checkpoint: CheckpointConfig, options: dict[str, Any]) -> float:
    """Count the bytes of a model's weights on the meta device.

    With quantised weights, embeddings and norms are counted as if quantised: a lower bound.

    Args:
        loader: a class with `from_pretrained`.
        checkpoint: the checkpoint's settings.
        options: the arguments of `from_pretrained`.

    Raises:
        UserError: the checkpoint is of another class.
    """
    hub = {key: options[key] for key in ("revision", "local_files_only") if key in options}
    config = AutoConfig.from_pretrained(checkpoint.path, **hub)
    expected = getattr(loader, "config_class", None)
    if expected is not None and not isinstance(config, expected):
        raise UserError(
            f"can't load the checkpoint {checkpoint.path}: it is a model of the type "
            f"{config.model_type}, and {expected.model_type} is wanted here. "
            "Correct the path in the profile."
        )
    make: Callable[[Any], nn.Module] = getattr(loader, "from_config", None) or loader
    with torch.device("meta"):
        model = make(config)
    each = _BYTES.get(checkpoint.quantize or "", options["dtype"].itemsize)
    return float(sum(parameter.numel() for parameter in model.parameters()) * each)


def load_processor(loader: Any, checkpoint: CheckpointConfig, **options: Any) -> Any:
    """Load a processor, tokenizer or configuration of transformers.

    Args:
        loader: a class with `from_pretrained`.
        checkpoint: the checkpoint's settings.
        options: further arguments of `from_pretrained`.

    Raises:
        UserError: it is missing.
    """
    silence_libraries()
    options |= {"revision": checkpoint.revision, **hub_options(checkpoint.path)}
    with loading_errors(checkpoint):
        return loader.from_pretrained(checkpoint.path, **options)
