"""Settings: params.yaml merged with a profile, checked as a whole, all problems reported at once.

`params.yaml` holds what people tune, and explains each setting. `conf/profiles/<profile>.yaml`
says where data and weights come from, and under `defaults` what `null` in `params.yaml` means.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator

from abo_vqa.core.batch_sizes import distribute_batch_sizes
from abo_vqa.core.checkpoint_settings import check_models
from abo_vqa.core.config_base import BaseConfig, Count, Fraction
from abo_vqa.core.data_config import DataConfig
from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.local_annotator import check_annotator
from abo_vqa.core.paths import is_output
from abo_vqa.core.profiles import misplaced, read_profile
from abo_vqa.core.remote_pin import check_folder_url, pin_problems, split_raw
from abo_vqa.core.serve_config import ServeConfig
from abo_vqa.core.service_config import EndpointConfig, GenerateConfig
from abo_vqa.core.split_config import SplitConfig, check_vector_models
from abo_vqa.core.trainable import complete_lora
from abo_vqa.core.validation import describe_validation_errors
from abo_vqa.core.verify_config import VerifyConfig, check_verifiers
from abo_vqa.core.yaml_files import fill_nulls, read_yaml

_Share = Annotated[float, Field(ge=0, lt=1)]
_Seed = Annotated[int, Field(ge=0, lt=2**32)]
_Dtype = Literal["float32", "float16", "bfloat16"]
Family = Literal["blip", "blip2", "chat", "clip", "endpoint", "llava", "prefix", "vilt"]
"""A class of models; `abo_vqa.models.registry.FAMILIES` has their implementations."""
Shortlist = Literal["first_token", "frequent"]
"""Which candidates of a closed world a question is decided among."""


class CheckpointConfig(BaseConfig):
    """Weights of one model: a hub id or local folder, a pinned revision, how they are used.

    Not every family takes every setting: see `abo_vqa.core.checkpoint_settings`.
    """

    path: str  # a repository of the model hub, or a folder
    family: Family | None = None  # the profile's, or the model's own name if it is a family's
    revision: str | None = None  # a commit of the hub, so that a moved branch changes nothing
    prompt: str = "{question}"  # {question} is filled in; clip: {candidate} too
    max_new_tokens: Count = 10  # of an answer
    batch_size: Count = 64  # the profile's `batch_sizes.<name>`
    dtype: _Dtype | None = None  # null: compute.dtype
    architecture: str | None = None  # open_clip only
    answer: Literal["whole", "last_word"] = "whole"  # last_word: of each text
    decoding: Literal["free", "ranked"] = "free"  # ranked: the likeliest of the train answers
    quantize: Literal["8bit", "4bit"] | None = None  # weights in fewer bits; extra: quant
    # For a model larger than one GPU; to choose a GPU, use compute.device.
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = None
    endpoint: EndpointConfig | None = None  # instead of weights; the profile has its settings here

    def answer_settings(self) -> dict[str, Any]:
        """Return the settings that an answer depends on, apart from rounding."""
        if self.endpoint:
            settings = self.endpoint.answer_settings()
            return {
                "family": self.family, "prompt": self.prompt, **settings, "answer": self.answer,
            }  # fmt: skip
        return self.model_dump(exclude={"batch_size", "device_map", "endpoint"})

    def reply_settings(self) -> dict[str, Any]:
        """Return the settings that an endpoint's paid replies depend on; {} of other families.

        Which part of a reply is the answer isn't among them: another choice is free. Nor is the
        output limit: only a reply that reaches it depends on it, and that one is asked for anew.
        """
        if not self.endpoint:
            return {}
        own = ("answer", "max_output_tokens")
        return {name: value for name, value in self.answer_settings().items() if name not in own}


class _ModelsConfig(BaseConfig):
    """The study's models by name, and any further ones that a profile names."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, CheckpointConfig]

    blip: CheckpointConfig
    blip2: CheckpointConfig
    clip: CheckpointConfig
    llava: CheckpointConfig
    vilt: CheckpointConfig


class ScorerConfig(BaseConfig):
    """A neural metric's model; `layer` (BERTScore) is 1-based, as bert_score counts."""

    path: str  # a repository of the model hub, or a folder
    revision: str | None = None  # a commit of the hub
    layer: Count | None = None  # of BERTScore, from 1
    batch_size: Count = 64  # the profile's `batch_sizes.<name>`


class ScorersConfig(BaseConfig):
    """The models of the neural metrics."""

    bertscore: ScorerConfig
    bartscore: ScorerConfig


class CurateConfig(BaseConfig):
    """Which listings are kept, and how product types are balanced."""

    cap: Count
    language: Literal["first_en", "any_en"]
    required: tuple[Literal["name", "product_type", "color", "keywords"], ...]
    excluded_images: tuple[str, ...]
    balance: Literal["cap", "temperature"]
    temperature: Annotated[float, Field(gt=0, le=1)]


class _EmbedConfig(BaseConfig):
    """How vision outputs are computed and stored."""

    dtype: _Dtype
    batch_size: Count
    store: Annotated[str, AfterValidator(check_folder_url)] | None


class _BaselinesConfig(BaseConfig):
    """Which models answer, and how many of the rows."""

    models: tuple[str, ...]
    fraction: Fraction
    answers: Path


class RankingConfig(BaseConfig):
    """How a model whose decoding is `ranked` chooses, and whether the fine-tuned one does too."""

    finetuned: bool
    candidates: Count
    shortlist: Shortlist


class FinetuneConfig(BaseConfig):
    """LoRA's shape and its training."""

    model: str
    r: Count
    alpha: Annotated[float, Field(gt=0)]
    dropout: _Share
    targets: tuple[str, ...] = Field(min_length=1)  # null: `LORA_TARGETS` of the family
    rslora: bool
    dora: bool
    lr: Annotated[float, Field(gt=0, lt=1)]
    schedule: Literal["linear", "cosine", "constant"]
    warmup: _Share
    weight_decay: Annotated[float, Field(ge=0)]
    batch_size: Count
    accumulate: Count
    epochs: Count
    validation: _Share
    group_pictures: bool
    max_grad_norm: Annotated[float, Field(gt=0)] | None
    checkpoint_minutes: Annotated[float, Field(gt=0)]
    keep_checkpoints: Count
    gradient_checkpointing: bool
    compile: bool
    threads: Count | None = None  # null: the run's
    seed: _Seed | None = None  # null: the run's


class _EvaluateConfig(BaseConfig):
    """The intervals, and the answers that count as the same."""

    resamples: Annotated[int, Field(ge=100)]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    aliases: Path


class _ReportConfig(BaseConfig):
    """The report's title and its thumbnails."""

    title: str | None = None  # null: named after the profile's catalogue
    thumbnail: Annotated[int, Field(ge=16, le=512)]
    embed_thumbnails: int


class ComputeConfig(BaseConfig):
    """The device, the dtype on a GPU, and the engine that deals work to processes."""

    device: str
    dtype: _Dtype
    engine: Literal["local", "ray"] = "local"
    workers: Count | None = None  # null: as many as the cluster has room for


class _TrackingConfig(BaseConfig):
    """Names in MLflow."""

    experiment: str
    model_name: str
    log_every: Count | None = None  # null: as many steps as keep a curve under 1,000 points


class Config(BaseConfig):
    """All settings of a run."""

    profile: str
    seed: _Seed
    threads: Count
    compute: ComputeConfig
    data: DataConfig
    models: _ModelsConfig
    scorers: ScorersConfig
    curate: CurateConfig
    generate: GenerateConfig
    verify: VerifyConfig
    split: SplitConfig
    embed: _EmbedConfig
    baselines: _BaselinesConfig
    lora: FinetuneConfig
    ranking: RankingConfig
    evaluate: _EvaluateConfig
    report: _ReportConfig
    tracking: _TrackingConfig
    serve: ServeConfig = ServeConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        table = self.generate.file
        if self.generate.annotator != "file":
            return self
        if table is None:
            raise ValueError("generate.annotator is 'file' but generate.file names no table")
        if is_output(table):
            raise ValueError(
                f"generate.file: found {table}; the pipeline itself writes it, and would remove or "
                "replace it. Copy the table to another name, and name the copy"
            )
        return self

    @model_validator(mode="after")
    def _endpoints_apart(self) -> Config:
        """Refuse two endpoints that only their addresses tell apart: replies would be shared."""
        names: dict[str, tuple[str, CheckpointConfig]] = {}
        for name, checkpoint in (self.models.model_extra or {}).items():
            if not checkpoint.endpoint:
                continue
            settings = fingerprint(checkpoint.reply_settings())
            other, first = names.setdefault(settings, (name, checkpoint))
            if first.endpoint and first.endpoint.base_url != checkpoint.endpoint.base_url:
                limits = {c.endpoint.max_output_tokens for c in (first, checkpoint) if c.endpoint}
                also = "" if len(limits) == 1 else " and max_output_tokens"
                also += "" if first.answer == checkpoint.answer else " and answer"
                raise ValueError(
                    f"models.{other} and models.{name} differ only in base_url{also}, which isn't "
                    "part of what tells paid replies apart: they would share them. Give the model "
                    f"{checkpoint.endpoint.model!r} another name at one of the servers (vLLM: "
                    "--served-model-name), or remove one of the two"
                )
        return self


def load_config(params: str | Path = "params.yaml") -> Config:
    """Read, merge and check the whole configuration.

    Args:
        params: the file with the tuned settings, next to the folder `conf`.

    Raises:
        UserError: It names all problems: unknown keys (with the nearest known one), wrong types,
            values out of range, files that don't exist.
    """
    params = Path(params)
    tuned = read_yaml(params)
    profiles = params.parent / "conf" / "profiles"
    profile = profiles / f"{tuned.get('profile')}.yaml"
    if not profile.is_file():
        names = ", ".join(sorted(p.stem for p in profiles.glob("*.yaml"))) or "none"
        raise UserError(f"profile: {tuned.get('profile')!r} is unknown; known: {names}.")
    sources = read_profile(profile)
    defaults = sources.pop("defaults", {})
    problems = misplaced(tuned, sources, params, profile)
    problems += distribute_batch_sizes(sources)
    problems += check_models(sources)
    merged = {**fill_nulls(tuned, defaults), **sources}
    problems += complete_lora(merged)
    problems += check_annotator(merged)
    problems += check_verifiers(merged)
    problems += check_vector_models(merged)
    merged["data"] = split_raw(merged.get("data"), profile.stem)
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        described = describe_validation_errors(error.errors(), Config, profile)
        problems += [line.replace(".endpoint.", ".", 1) for line in described]
    else:
        problems += _missing_files(config)
        problems += pin_problems(config.data.raw, config.data.url, profile.stem)
    if problems:
        head = f"{len(problems)} problem(s) in the settings ({params} and {profile}):"
        raise UserError("\n  ".join([head, *problems]))
    return config


def _missing_files(config: Config) -> list[str]:
    """Report files that settings name and that don't exist."""
    reviews, table = config.generate.review, config.generate.file
    files = {
        "generate.prompt": config.generate.prompt,
        "generate.file": table if table and not table.is_dir() else None,
        "baselines.answers": config.baselines.answers,
        "generate.review": reviews if reviews and not reviews.is_dir() else None,
        "evaluate.aliases": config.evaluate.aliases,
    }
    return [f"{key}: no file at {p}" for key, p in files.items() if p and not p.is_file()]
