"""Checks of models: one image, one question each.

They run on the device and, if that is a GPU, on the CPU as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from abo_vqa.commands.doctor.bounds import Bound, bound, difference
from abo_vqa.commands.doctor.findings import (
    Check,
    Checkout,
    Finding,
    NotCheckedError,
    ok,
    problem,
    warning,
)
from abo_vqa.commands.doctor.gpu import usable
from abo_vqa.commands.doctor.reference import on_cpu, skip_reason
from abo_vqa.commands.doctor.sample_image import sample_image
from abo_vqa.commands.doctor.training import check_step
from abo_vqa.commands.doctor.weights import require
from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import ADAPTER, FINETUNED_MODEL
from abo_vqa.core.units import GB
from abo_vqa.models.candidates import CLIP, REGIMES, candidates_for
from abo_vqa.models.registry import (
    BLIND_MODEL,
    checkpoint_key,
    checkpoint_of,
    load_model,
    model_names,
    require_model,
)

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from abo_vqa.core.config import Config
    from abo_vqa.models.answers import Answer
    from abo_vqa.models.base import VQAModel

_QUESTION = "What color is it?"
_CHOICES = ("red", "black", "white", "yes", "two")


@dataclass(frozen=True)
class Trial:
    """A model's results for the image and the question.

    Attributes:
        answer: its answer.
        encoded: the image's encoding as a vector, in float32 on the CPU.
        likelihoods: log-likelihoods of those `_CHOICES` that the model has one for, likewise.
        dtype: the weights' dtype.
        parameters: how many it has.
        load_s: seconds that loading took.
        answer_s: seconds that answering took.
        peak: bytes of memory.
    """

    answer: Answer
    encoded: torch.Tensor
    likelihoods: torch.Tensor
    dtype: str
    parameters: int
    load_s: float
    answer_s: float
    peak: int


def checks(case: Checkout) -> list[tuple[str, Check]]:
    """List a check for every model to try, by name, and one of a training step.

    Args:
        case: the checkout.
    """
    model_checks: list[tuple[str, Check]] = [(name, partial(check, name)) for name in chosen(case)]
    trained = (
        {FINETUNED_MODEL} if case.config is None else {case.config.lora.model, FINETUNED_MODEL}
    )
    if not case.names or trained & set(case.names):
        model_checks.append(("training step", check_step))
    return model_checks


def chosen(case: Checkout) -> list[str]:
    """Choose the models to try.

    Args:
        case: the checkout.

    Returns:
        Those asked for; else one of each set of weights in `baselines.models`, and the fine-tuned
        one if there is one. Names there that no model has are `model_settings`' finding, and the
        servers of endpoints are `endpoints`'.
    """
    if case.config is None:
        return []
    if case.names:
        return list(dict.fromkeys(variant(name, case.config) for name in case.names))
    config = case.config
    known = [
        name
        for name in model_names(config)
        if not checkpoint_of(checkpoint_key(name), config).endpoint
    ]
    named = [n for n in config.baselines.models if n in known]
    first = {checkpoint_key(name): name for name in reversed(named)}
    tuned = [FINETUNED_MODEL] if (ADAPTER / "adapter_config.json").is_file() else []
    return [*reversed(first.values()), *tuned]


def variant(name: str, config: Config) -> str:
    """Return a model for a name that only weights have: "clip-fixed" for "clip".

    Its variants differ in candidates, which are the same here, so any of them will do.

    Args:
        name: the name.
        config: the settings.
    """
    if name != CLIP:
        return name
    return next(n for n in (*config.baselines.models, *REGIMES) if n in REGIMES)


def check(name: str, case: Checkout) -> Iterator[Finding]:
    """Ask one model; see `Trial`.

    Args:
        name: the model.
        case: the checkout.
    """
    config = case.settings
    if name == BLIND_MODEL:
        there = ", ".join([*model_names(config), FINETUNED_MODEL])
        raise UserError(
            f"the blind baselines have no weights to try. Models with weights: {there}."
        )
    require_model(name, config, [FINETUNED_MODEL])
    key = config.lora.model if name == FINETUNED_MODEL else checkpoint_key(name)
    checkpoint = checkpoint_of(key, config)
    if checkpoint.endpoint:
        raise NotCheckedError(
            "not tried: it is behind an API, where an answer may cost money",
            f"`abo-vqa ask --model {name}` asks it. The endpoint is checked above.",
        )
    require(checkpoint, case)
    device = usable(config)
    _, image = sample_image(case)
    trial = _try_model(name, config, image, device)
    numbers = {
        "load_s": trial.load_s,
        "answer_s": trial.answer_s,
        "peak_bytes": float(trial.peak),
        "confidence": trial.answer.confidence or 0.0,
    }
    if trial.answer.error or not bool(trial.encoded.isfinite().all()):
        wrong = trial.answer.error or "its encoding of the image isn't finite"
        advice = f"Try models.{key}.dtype: float32 in the profile."
        yield problem(name, f"{wrong}; {trial.dtype} on {device}", advice, numbers)
        return
    message = f"{_format_answer(trial.answer)}; {trial.dtype} on {device}, {_costs(trial)}"
    if device.type == "cpu":
        yield ok(name, message, numbers)
    elif reason := skip_reason(checkpoint, trial.parameters):
        yield ok(name, f"{message}; not compared with the CPU: {reason}", numbers)
    else:
        reference = _try_model(name, on_cpu(key, config), image, None)
        yield _compared(name, message, trial, reference, numbers)


def _try_model(name: str, config: Config, image: Image, device: torch.device | None) -> Trial:
    """Load a model, ask it, and release it.

    Args:
        name: the model.
        config: the settings.
        image: the image.
        device: where to measure the peak of memory; None for the CPU.
    """
    import torch

    from abo_vqa.core.memory import peak_memory, release_memory

    place = device or torch.device("cpu")
    release_memory()
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
    began = time.perf_counter()
    model = _load(name, config)
    loaded = time.perf_counter()
    answer = model.answer([image], [_QUESTION])[0]
    answered = time.perf_counter()
    encoded = _as_vector(model.encode_images([image]))
    parts = list(vars(model)["model"].parameters())
    trial = Trial(
        answer,
        encoded,
        _likelihoods(model, image),
        str(model.record()["dtype"]),
        sum(p.numel() for p in parts),
        loaded - began,
        answered - loaded,
        peak_memory(place),
    )
    del model, parts
    release_memory()
    return trial


def _load(name: str, config: Config) -> VQAModel:
    """Load a model as `abo-vqa ask` does, but every CLIP with the fixed candidates.

    Other candidates come from tables that earlier stages make.
    """
    if name == FINETUNED_MODEL:
        return load_model(config.lora.model, config, adapter=ADAPTER)
    if name in REGIMES:
        return load_model(name, config, candidates=candidates_for("clip-fixed", config))
    return load_model(name, config)


def _likelihoods(model: VQAModel, image: Image) -> torch.Tensor:
    """Return log-likelihoods of `_CHOICES`, empty for a family that has none."""
    import torch

    scores: Sequence[float] = ()
    with suppress(UserError):  # said by a family that can't rank
        scores = model.rank([image], [_QUESTION], [_CHOICES])[0]
    return torch.tensor([s for s in scores if s != float("-inf")], dtype=torch.float32)


def _as_vector(encoded: Any) -> torch.Tensor:
    """Return all numbers of an encoding as one vector, in float32 on the CPU."""
    import torch
    from torch.utils._pytree import tree_flatten

    tensors = [t for t in tree_flatten(encoded)[0] if isinstance(t, torch.Tensor)]
    moved = [tensor.detach().to("cpu").float().flatten() for tensor in tensors]
    return torch.cat(moved) if moved else torch.zeros(0)


def _compared(
    name: str, message: str, trial: Trial, reference: Trial, numbers: dict[str, float]
) -> Finding:
    """Compare the device's results with the CPU's in float32."""
    limit: Bound = bound(trial.dtype)
    off = {
        "encoding": difference([trial.encoded], [reference.encoded]),
        "likelihoods": difference([trial.likelihoods], [reference.likelihoods]),
    }
    numbers = {**numbers, **{f"{key}_difference": value for key, value in off.items()}}
    message = (
        f"{message}; CPU {_format_answer(reference.answer)}, largest difference of encoding "
        f"{off['encoding']:.1e}, of log-likelihoods {off['likelihoods']:.1e} "
        f"(at most {limit.answers:.0e} of the largest)"
    )
    if not max(off.values()) <= limit.answers:  # NaN is beyond it as well
        advice = (
            f"Don't trust this device with {trial.dtype} yet: try dtype: float32 for this model in "
            "the profile; if that differs too, another driver or build of torch. Please report it."
        )
        return problem(name, message, advice, numbers)
    if trial.answer.text != reference.answer.text:
        advice = "Two answers are almost equally likely, so rounding decides; nothing to do."
        return warning(name, f"{message}; the answers differ", advice, numbers)
    return ok(name, message, numbers)


def _format_answer(answer: Answer) -> str:
    sure = "" if answer.confidence is None else f" ({answer.confidence:.3f})"
    return f'"{answer.text}"{sure}'


def _costs(trial: Trial) -> str:
    return (
        f"loaded in {trial.load_s:.1f} s, answered in {trial.answer_s:.2f} s, "
        f"peak {trial.peak / GB:.2f} GB"
    )
