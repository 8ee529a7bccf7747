"""From a checkpoint's settings to weights: device, number format, quantisation, clear refusals."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.errors import UserError
from abo_vqa.io import file_md5

if TYPE_CHECKING:
    import torch

    from abo_vqa.config import Checkpoint, Compute


def pick_device(wanted: str) -> torch.device:
    """The device for "auto", "cpu", "cuda" or "cuda:1"; with several processes, each its own GPU.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UserError(
            f"compute.device: {wanted!r} isn't a device; use auto, cpu, cuda or cuda:1."
        ) from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"compute.device is {wanted}, but torch sees no GPU; use auto or cpu.")
        if device == torch.device("cuda"):
            # One process a GPU (set by torchrun and accelerate launch), else the first.
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def pick_dtype(checkpoint: Checkpoint, compute: Compute, device: torch.device) -> torch.dtype:
    """The checkpoint's own dtype, else on a GPU `compute.dtype`, else float32.

    Half precision on a CPU is slower than float32 on most machines, so `compute.dtype` doesn't
    apply there; `models.<name>.dtype` does.
    """
    import torch

    name = checkpoint.dtype or (compute.dtype if device.type != "cpu" else "float32")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def load_options(checkpoint: Checkpoint, compute: Compute) -> tuple[dict[str, Any], torch.device]:
    """Keyword arguments for `from_pretrained`, and the device the inputs go to.

    Raises:
        UserError: quantised weights are asked for where they can't be loaded.
    """
    device = pick_device(compute.device)
    options: dict[str, Any] = {
        "revision": checkpoint.revision,
        "dtype": pick_dtype(checkpoint, compute, device),
    }
    if checkpoint.device_map:
        options["device_map"] = checkpoint.device_map
    if checkpoint.quantize:
        options["quantization_config"] = quantisation(checkpoint, device, options["dtype"])
        options.setdefault("device_map", {"": device})
    return options, device


def quantisation(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Any:
    """The bitsandbytes configuration for 8 or 4 bits; computation in `dtype`."""
    if find_spec("bitsandbytes") is None:
        raise UserError(
            f"{checkpoint.path}: quantize is {checkpoint.quantize}, which needs bitsandbytes. "
            "Install it (`pip install 'abo-vqa[quant]'`) or set quantize to null."
        )
    if device.type != "cuda":
        raise UserError(
            f"{checkpoint.path}: quantize is {checkpoint.quantize}, which needs a CUDA GPU, "
            f"but the device is {device}. Set quantize to null."
        )
    from transformers import BitsAndBytesConfig

    if checkpoint.quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def load_pretrained(loader: Any, checkpoint: Checkpoint, compute: Compute) -> tuple[Any, Any]:
    """Load weights with `loader.from_pretrained`, in evaluation mode on their device.

    Returns:
        The model, and the device its inputs go to.
    Raises:
        UserError: the checkpoint is missing or isn't one of this class.
    """
    quiet()
    options, device = load_options(checkpoint, compute)
    with refusals(checkpoint):
        model = loader.from_pretrained(checkpoint.path, **options)
    if "device_map" not in options:
        model = model.to(device)
    return model.eval().requires_grad_(False), device


def load_processor(loader: Any, checkpoint: Checkpoint) -> Any:
    """Load a processor with `loader.from_pretrained`; a missing one is a UserError."""
    quiet()
    with refusals(checkpoint):
        return loader.from_pretrained(checkpoint.path, revision=checkpoint.revision)


class refusals:
    """Turn a library's failure to find or read a checkpoint into one clear message."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if not isinstance(error, OSError | ValueError):
            return
        path = self.checkpoint.path
        folder = Path(path)
        if folder.is_dir():
            hint = "the folder holds no checkpoint of this kind"
        elif path.count("/") != 1 or path.startswith((".", "/")):
            hint = "no folder of that name; run `dvc pull`, or `make sample` for the sample's"
        else:
            hint = "no folder of that name, not in the local cache, and not to be had from the hub"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"can't load the checkpoint {path}: {hint}. ({reason})") from error


def quiet() -> None:
    """Loading bars and advice meant for developers don't belong in a stage's output."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def identity(checkpoint: Checkpoint) -> str:
    """What tells these weights from others: a hub id and revision, or the local files' hashes."""
    folder = Path(checkpoint.path)
    if not folder.is_dir():
        return f"{checkpoint.path}@{checkpoint.revision or 'main'}"
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return " ".join(f"{p.relative_to(folder).as_posix()}:{file_md5(p)}" for p in files)


def describe(checkpoint: Checkpoint, model: Any) -> dict[str, Any]:
    """The part of a record that all families share."""
    held: dict[Any, int] = {}
    for parameter in model.parameters():  # some modules are kept in float32
        held[parameter.dtype] = held.get(parameter.dtype, 0) + parameter.numel()
    dtype = max(held, key=lambda d: held[d])
    return {
        "path": checkpoint.path,
        "revision": checkpoint.revision or "",
        "dtype": str(dtype).removeprefix("torch."),
        "quantize": checkpoint.quantize or "",
    }
