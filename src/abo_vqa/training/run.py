"""Training from the tables to the best epoch's adapter."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.config import Config
from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5, fingerprint, stage_code
from abo_vqa.core.locks import locked
from abo_vqa.core.memory import peak_memory
from abo_vqa.core.processes import rank_and_world
from abo_vqa.core.scratch import scratch
from abo_vqa.core.summary import Log, no_log
from abo_vqa.core.tables import read_table
from abo_vqa.models.embeddings.store import EmbeddingStore

if TYPE_CHECKING:
    import pandas as pd

    from abo_vqa.models.blip.model import Blip
    from abo_vqa.training.batches import Pictures
    from abo_vqa.training.history import History
from abo_vqa.core.paths import EMBEDDINGS, TRAIN


@dataclass(frozen=True)
class TrainingResult:
    """What training left.

    Attributes:
        found: numbers about the run. matched: the layers that LoRA was put on.
        folder: the journal: its checkpoints hold all that was trained.
        cost: rows a second since the (re)start, validation left out, and the peak of memory.
        main: whether this process writes the outputs.
        save: writes the best epoch's adapter to a folder.
    """

    found: dict[str, Any]
    matched: list[str]
    history: History
    folder: Path
    cost: dict[str, float]
    main: bool
    save: Callable[[Path], None] | None = None


def journal_key(config: Config, store: EmbeddingStore) -> str:
    """A fingerprint of all that the result depends on: settings, rows, vision outputs, code."""
    from abo_vqa.models.loading import identity

    settings = config.lora.model_dump(exclude={"checkpoint_minutes", "keep_checkpoints"})
    return fingerprint(
        [
            settings,
            config.seed,
            config.threads,
            config.compute.model_dump(),
            config.split.model_dump(),
            config.models.blip.determining(),
            identity(config.models.blip),
            file_md5(TRAIN),
            dict(store.meta),  # with a digest of the outputs, hence of the pictures
            dict(stage_code("finetune")),
        ]
    )


def journal_folder(config: Config) -> Path:
    """Where checkpoints and the best adapter so far are."""
    return scratch("finetune", journal_key(config, EmbeddingStore.open(EMBEDDINGS)))


@contextmanager
def journal(config: Config) -> Iterator[Path]:
    """The journal's folder, to work in alone; processes that share a training follow the first."""
    folder = journal_folder(config)
    if rank_and_world()[0] > 0:
        yield folder
    else:
        with locked(folder):
            yield folder


def accelerator(config: Config) -> Any:
    """Accelerate's, under `torchrun` or `accelerate launch`; None with one process.

    Raises:
        UserError: the processes of this machine would share one GPU.
    """
    rank, world = rank_and_world()
    if world < 2:
        return None
    from accelerate import Accelerator

    from abo_vqa.core.devices import pick_device

    device = config.compute.device
    if ":" in device and int(os.environ.get("LOCAL_WORLD_SIZE", world)) > 1:
        raise UserError(
            f"compute.device is {device}, which all {world} processes would share. "
            "Use cuda or auto: each process takes a GPU of its own."
        )
    shared = Accelerator(cpu=pick_device(device).type == "cpu")
    if rank == 0:
        print(f"{shared.num_processes} processes share each batch", file=sys.stderr)
    return shared


def readable_rows(store: EmbeddingStore) -> pd.DataFrame:
    """The training table without rows about pictures that can't be read."""
    table = read_table(TRAIN, ["image_path", "question", "answer"])
    unreadable = table["image_path"].isin(list(store.errors))
    return table[~unreadable].reset_index(drop=True)


def _pictures_for(
    config: Config, blip: Blip, store: EmbeddingStore, table: pd.DataFrame, stack: ExitStack,
    live: bool,
) -> Pictures:  # fmt: skip
    """Kept vision outputs, or the archive's pixels if the vision tower learns (`live`)."""
    from abo_vqa.data.archive import open_archive
    from abo_vqa.training.pictures import Pixels, Resident, nearest

    if live:
        print("lora.targets reach the vision tower: its kept outputs aren't used", file=sys.stderr)
        archive = stack.enter_context(open_archive(config.data.raw))
        return Pixels(archive, blip.processor.image_processor)
    if not store.matches(config):
        raise UserError(f"{EMBEDDINGS} holds other weights' outputs: run the stage `embed`.")
    pictures = nearest(store, table["image_path"].tolist(), blip.device)
    if isinstance(pictures, Resident):
        stack.callback(pictures.close)
    return pictures


def train(config: Config, log: Log = no_log) -> TrainingResult:
    """Train, or go on training, on data/train.csv; call it within `journal`."""
    import torch

    from abo_vqa.core.devices import pick_dtype
    from abo_vqa.models.blip.model import Blip
    from abo_vqa.training.batches import Examples
    from abo_vqa.training.checkpoints import Checkpoints
    from abo_vqa.training.loop import Trainer
    from abo_vqa.training.lora import add_lora, outline, reaches_vision, save
    from abo_vqa.training.validation import Validator, hold_out

    torch.set_num_threads(config.lora.threads or config.threads)
    several = accelerator(config)
    store = EmbeddingStore.open(EMBEDDINGS)
    table = readable_rows(store)
    rows, held = hold_out(table, config)
    torch.manual_seed(config.seed)
    # Weights in float32, or quantised as they are; the arithmetic in the dtype of the settings.
    whole = None if config.models.blip.quantize else torch.float32
    blip = Blip.load(config.models.blip, config.compute, dtype=whole)
    dtype = pick_dtype(config.models.blip, config.compute, blip.device)
    model, matched = add_lora(blip.model, config.lora, config.models.blip)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if rank_and_world()[0] == 0:
        print(f"LoRA on {len(matched)} layers, {trained:,} trainable parameters:", file=sys.stderr)
        print(outline(matched), file=sys.stderr)
    folder = journal_folder(config)
    with ExitStack() as stack:
        live = reaches_vision(matched)
        pictures = _pictures_for(config, blip, store, table, stack, live)
        text = blip.model.config.text_config
        examples = Examples(
            table, blip.processor.tokenizer, text.bos_token_id, text.sep_token_id, pictures
        )
        trainer = Trainer(
            model,
            examples,
            rows,
            config.lora,
            config.seed,
            Checkpoints(folder, config.lora.keep_checkpoints),
            dtype,
            several,
        )
        validator = Validator(blip, examples, table, held or rows, dtype)
        history = trainer.train(validator, log, config.tracking.log_every)
    found: dict[str, Any] = {
        "rows": len(rows),
        "held_out_rows": len(held),
        "images": int(table["image_path"].iloc[rows].nunique()),
        "best_epoch": history.best_epoch,
        "best_validation_accuracy": history.best_accuracy,
        "trainable_parameters": trained,
        "modules": len(matched),
    }
    keep = partial(save, model, blip.processor)
    cost = {"rows_per_second": trainer.speed, "peak_memory_bytes": peak_memory(blip.device)}
    return TrainingResult(found, matched, history, folder, cost, trainer.process == 0, keep)
