"""Training from the tables to the best epoch's adapter."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator

from abo_vqa.core.config import Config
from abo_vqa.core.devices import pick_device, pick_dtype
from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5, fingerprint, stage_code
from abo_vqa.core.locks import locked
from abo_vqa.core.log import get_logger
from abo_vqa.core.memory import peak_memory
from abo_vqa.core.paths import TRAIN, embeddings_of
from abo_vqa.core.processes import rank_and_world_size
from abo_vqa.core.scratch import scratch
from abo_vqa.core.summary import Log, no_log
from abo_vqa.core.tables import read_table
from abo_vqa.data.archive import open_archive
from abo_vqa.data.similarity_rule import vector_digests
from abo_vqa.models.embeddings.store import EmbeddingStore, how_to_embed
from abo_vqa.models.identity import identity
from abo_vqa.models.registry import family_class
from abo_vqa.training.checkpoints import CheckpointManager
from abo_vqa.training.dataset import ImageSource, VqaDataset
from abo_vqa.training.family import TrainableFamily
from abo_vqa.training.history import History
from abo_vqa.training.loop import Trainer
from abo_vqa.training.lora import add_lora, describe_targets, save_adapter, trains_vision
from abo_vqa.training.registry import trainable_family, trained_checkpoint
from abo_vqa.training.validation import Validator, hold_out
from abo_vqa.training.vision_cache import (
    EncodedSource,
    PixelSource,
    cache_vision_outputs,
)

if TYPE_CHECKING:
    import pandas as pd

    from abo_vqa.models.pretrained import PretrainedVQAModel

logger = get_logger(__name__)

_EPOCH = ("epoch", "validation_accuracy", "validation_loss")
_ROWS = 1000  # of the table of held-out rows


@dataclass(frozen=True)
class TrainingResult:
    """What a training leaves.

    Attributes:
        metrics: numbers about the training that are the same on every run.
        target_layers: names of the layers that LoRA was put on.
        history: every step and epoch.
        cost: rows per second since the (re)start, without validation, and the peak of memory.
        is_main: whether this process writes the outputs.
        held_out: the held-out rows (image_path, question, answer), and whether the best epoch's
            adapter answers them correctly (correct); none are if `lora.validation` is 0.
        save: writes the best epoch's adapter to a folder.
    """

    metrics: dict[str, Any]
    target_layers: list[str]
    history: History
    cost: dict[str, float]
    is_main: bool
    held_out: pd.DataFrame
    save: Callable[[Path], None] | None = None

    def tables(self) -> dict[str, dict[str, list[Any]]]:
        """Return small tables for the browser of runs: epochs, and the first held-out rows."""
        first = self.held_out.head(_ROWS)
        epochs = {name: [epoch[name] for epoch in self.history.epochs] for name in _EPOCH}
        return {"held_out": {str(k): first[k].tolist() for k in first}, "epochs": epochs}


def training_key(config: Config, store: EmbeddingStore, rows: Path = TRAIN) -> str:
    """Return a fingerprint of all that the result depends on.

    Args:
        config: the settings.
        store: the vision outputs, whose metadata has a digest of them, hence of the images.
        rows: the training table.
    """
    # Checkpoints, of the training and of gradients, change nothing of the result.
    unrelated = {"checkpoint_minutes", "keep_checkpoints", "gradient_checkpointing"}
    settings = config.lora.model_dump(exclude=unrelated)
    checkpoint = trained_checkpoint(config)
    return fingerprint(
        [
            settings,
            config.seed,
            config.threads,
            config.compute.model_dump(include={"device", "dtype"}),  # the engine changes no byte
            config.split.model_dump(),
            vector_digests(config.split.cosine),
            checkpoint.answer_settings(),
            identity(checkpoint),
            file_md5(rows),
            dict(store.meta),
            stage_code("finetune"),
        ]
    )


def training_seed(config: Config) -> int:
    """Return what decides the order of rows, LoRA's initial weights and dropout.

    `seed` also decides the split and which rows are held out; `lora.seed` changes training alone.

    Args:
        config: the settings.
    """
    return config.seed if config.lora.seed is None else config.lora.seed


def open_store(config: Config) -> EmbeddingStore:
    """Return the vision outputs of `lora.model`.

    Args:
        config: the settings.

    Raises:
        UserError: they are missing, incomplete or damaged.
    """
    return EmbeddingStore.open(embeddings_of(config.lora.model))


def checkpoint_folder(config: Config, rows: Path = TRAIN) -> Path:
    """Return the folder of the checkpoints and of the adapter until it is complete.

    Args:
        config: the settings.
        rows: the training table.
    """
    return scratch("finetune", training_key(config, open_store(config), rows))


@contextmanager
def locked_checkpoints(config: Config, rows: Path = TRAIN) -> Iterator[Path]:
    """Lock the folder of the checkpoints; of several processes the main one does it for all.

    Args:
        config: the settings.
        rows: the training table.

    Yields:
        The folder.
    """
    folder = checkpoint_folder(config, rows)
    if rank_and_world_size()[0] > 0:
        yield folder
    else:
        with locked(folder):
            yield folder


def _make_accelerator(config: Config) -> Accelerator | None:
    """Accelerate's object under `torchrun` or `accelerate launch`; None with one process.

    Raises:
        UserError: the processes of this machine would share one GPU.
    """
    rank, world_size = rank_and_world_size()
    if world_size < 2:
        return None
    device = config.compute.device
    if ":" in device and int(os.environ.get("LOCAL_WORLD_SIZE", world_size)) > 1:
        raise UserError(
            f"compute.device is {device}, so all {world_size} processes would use the same GPU. "
            "Use cuda or auto: each process takes a GPU of its own."
        )
    accelerator = Accelerator(cpu=pick_device(device).type == "cpu")
    if rank == 0:
        logger.info(f"{accelerator.num_processes} processes share each batch")
    return accelerator


def readable_rows(store: EmbeddingStore, rows: Path = TRAIN) -> pd.DataFrame:
    """Return the training table without rows about images that can't be read.

    Args:
        store: the vision outputs, which name those images.
        rows: the training table.

    Raises:
        UserError: no row is left.
    """
    table = read_table(rows, ["image_path", "question", "answer"])
    readable = table[~table["image_path"].isin(list(store.errors))]
    if readable.empty:
        raise UserError(f"{rows} has no question about an image that can be read.")
    return readable.reset_index(drop=True)


def _trainable_rows(vqa: PretrainedVQAModel, table: pd.DataFrame, rows: Sequence[int]) -> list[int]:
    """Leave out rows that the model can't take: too long, empty, with a token for images."""
    questions = table["question"].iloc[list(rows)].tolist()
    answers = table["answer"].iloc[list(rows)].str.lower()  # as they are trained
    errors = vqa.question_errors(questions, [[answer] for answer in answers])
    left = [row for row, error in zip(rows, errors, strict=True) if not error]
    if len(left) < len(rows) and rank_and_world_size()[0] == 0:
        reason = next(error for error in errors if error)
        logger.warning(
            f"{len(rows) - len(left):,} of {len(rows):,} training rows are left out: {reason}"
        )
    return left


@contextmanager
def _open_images(
    config: Config,
    vqa: PretrainedVQAModel,
    store: EmbeddingStore,
    table: pd.DataFrame,
    pixels: bool,
) -> Iterator[ImageSource]:
    """The table's cached vision outputs, or the archive's pixels if the vision part is trained."""
    if pixels:
        logger.info(
            "lora.targets include layers of the vision part: its cached outputs can't be used"
        )
        with open_archive(config.data.raw) as archive:
            yield PixelSource(archive, vqa)
        return
    name = config.lora.model
    if not store.matches(config, name):
        raise UserError(
            f"{embeddings_of(name)} was computed with other weights: {how_to_embed(name)}."
        )
    outputs = cache_vision_outputs(store, table["image_path"].tolist(), vqa.device)
    try:
        yield EncodedSource(outputs, vqa)
    finally:
        outputs.close()
        store.close()


def load_for_training(config: Config) -> TrainableFamily:
    """Load `lora.model`: weights in float32 or, where the family allows it, as the settings say.

    The arithmetic may be in another dtype, that of the settings.

    Args:
        config: the settings.
    """
    checkpoint = trained_checkpoint(config)
    family = trainable_family(checkpoint)
    model_class = family_class(checkpoint)
    as_is = checkpoint.quantize or model_class.half_precision_base
    weights = None if as_is else torch.float32
    loaded: TrainableFamily = family(model_class.load(checkpoint, config.compute, dtype=weights))
    return loaded


def train(
    config: Config, folder: Path, track: Log = no_log, training_rows: Path = TRAIN
) -> TrainingResult:
    """Train, or resume a training.

    Args:
        config: the settings.
        folder: for checkpoints, from `locked_checkpoints`.
        track: receives the metrics of steps and epochs.
        training_rows: the table.
    """
    torch.set_num_threads(config.lora.threads or config.threads)
    accelerator = _make_accelerator(config)
    is_main = rank_and_world_size()[0] == 0
    store = open_store(config)
    table = readable_rows(store, training_rows)
    rows, held_out = hold_out(table, config)
    seed = training_seed(config)
    torch.manual_seed(seed)
    family = load_for_training(config)
    vqa = family.vqa
    rows, held_out = (_trainable_rows(vqa, table, part) for part in (rows, held_out))
    if not rows:
        raise UserError(f"{training_rows} has no row left to train on.")
    dtype = pick_dtype(vqa.checkpoint, config.compute, vqa.device)
    model, layers = add_lora(family, config.lora)
    trainable, _ = model.get_nb_trainable_parameters()
    if is_main:
        logger.info(f"LoRA on {len(layers)} layers, {trainable:,} trainable parameters:")
        logger.info(describe_targets(layers))
    pixels = trains_vision(layers, vqa.vision_modules)
    with _open_images(config, vqa, store, table, pixels=pixels) as images:
        dataset = VqaDataset(table, family, images)
        checkpoints = CheckpointManager(folder, config.lora.keep_checkpoints)
        trainer = Trainer(model, dataset, rows, config.lora, seed, checkpoints, dtype, accelerator)
        validator = Validator(dataset, table, held_out or rows, dtype)
        history = trainer.train(validator, track, config.tracking.log_every)
    metrics: dict[str, Any] = {
        "rows": len(rows),
        "held_out_rows": len(held_out),
        "images": int(table["image_path"].iloc[rows].nunique()),
        "best_epoch": history.best_epoch,
        "best_validation_accuracy": history.best_accuracy,
        "trainable_parameters": trainable,
        "modules": len(layers),
    }
    cost = {
        "rows_per_second": trainer.rows_per_second,
        "peak_memory_bytes": peak_memory(vqa.device),
    }
    save = partial(save_adapter, model, vqa.processor)
    validated = table.iloc[held_out][["image_path", "question", "answer"]]
    validated = validated.assign(correct=history.best_correct if held_out else [])
    return TrainingResult(metrics, layers, history, cost, is_main, validated, save)
