"""Stage `finetune`: LoRA (Hu et al., 2022, arXiv:2106.09685) on BLIP's text encoder and decoder.

The vision tower is frozen and has no dropout, so its outputs come from the stage `embed`. Killed at
any step, the same command goes on from the last checkpoint and ends with the same bytes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.config import Config
from abo_vqa.embed import EmbeddingStore
from abo_vqa.errors import UserError
from abo_vqa.groups import NEEDS, group_rows
from abo_vqa.io import file_md5, fingerprint, read_table, scratch, write_json
from abo_vqa.metrics.normalise import norm
from abo_vqa.stage import Log, Summary, execute, no_log

if TYPE_CHECKING:
    import pandas as pd

TRAIN = Path("data/train.csv")
EMBEDDINGS = Path("data/embeddings")
ADAPTER = Path("models/adapter")
HISTORY = Path("reports/training.json")
VALIDATION_BATCH = 256


def hold_out(table: pd.DataFrame, config: Config) -> tuple[list[int], list[int]]:
    """Positions to train on and to validate on; they share no group of the split's kind."""
    from sklearn.model_selection import GroupShuffleSplit

    share = config.lora.validation
    if share == 0:
        return list(range(len(table))), []
    kind = config.split.group if set(NEEDS[config.split.group]) <= set(table.columns) else "image"
    groups = group_rows(table, kind, config.split.phash_distance)
    splitter = GroupShuffleSplit(n_splits=1, test_size=share, random_state=config.seed)
    train, validation = next(splitter.split(table, groups=groups))
    return train.tolist(), validation.tolist()


def add_lora(blip: Any, config: Config) -> tuple[Any, list[str]]:
    """Put LoRA on the targeted layers.

    Returns:
        PEFT's model, and the names of the layers that matched.
    Raises:
        UserError: no layer matches; says which names there are.
    """
    from peft import LoraConfig, get_peft_model

    settings, source = config.lora, config.models.blip
    layers = [name for name, module in blip.named_modules() if hasattr(module, "weight")]
    names = {part for name in layers for part in (name, name.rsplit(".", 1)[-1])}
    unknown = [target for target in settings.targets if target not in names]
    if unknown:
        short = sorted({name.rsplit(".", 1)[-1] for name in layers})
        raise UserError(
            f"lora.targets: {', '.join(unknown)} match no layer. There are: {', '.join(short)}."
        )
    wanted = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        base_model_name_or_path=source.path,
        revision=source.revision,
    )
    model = get_peft_model(blip, wanted)
    matched = sorted(model.targeted_module_names)
    if any(name.startswith("vision_model") for name in matched):
        raise UserError(
            "lora.targets reach the vision tower, whose outputs are computed once and kept; "
            "choose layers of the text encoder and decoder, e.g. [query, value]."
        )
    return model, matched


def validator(blip: Any, table: pd.DataFrame, rows: Sequence[int], store: Any) -> Any:
    """A function that gives the model's exact match (after norm) on the rows as it is now."""
    chosen = table.iloc[list(rows)].reset_index(drop=True)
    lengths = chosen["question"].str.len()
    parts = [
        chosen.loc[index]
        for start in range(0, len(chosen), VALIDATION_BATCH)
        for index in [lengths.sort_values(kind="stable").index[start : start + VALIDATION_BATCH]]
    ]

    def accuracy() -> float:
        right = 0
        for part in parts:
            paths = list(dict.fromkeys(part["image_path"]))
            which = [paths.index(path) for path in part["image_path"]]
            said = blip.answer_encoded(store.get(paths), which, part["question"].tolist())
            right += sum(norm(a.text) == norm(t) for a, t in zip(said, part["answer"], strict=True))
        return right / len(chosen)

    return accuracy


def journal_key(config: Config, store: EmbeddingStore) -> str:
    """A fingerprint of all that the result depends on: settings, rows, vision outputs, code."""
    from abo_vqa import training
    from abo_vqa.models import blip, blip_attention

    settings = config.lora.model_dump(exclude={"checkpoint_minutes", "keep_checkpoints"})
    code = [*sorted(Path(training.__path__[0]).glob("*.py")), Path(blip.__file__)]
    code += [Path(blip_attention.__file__), Path(__file__)]
    return fingerprint(
        [
            settings,
            config.seed,
            config.threads,
            config.compute.model_dump(),
            config.split.model_dump(),
            file_md5(TRAIN),
            dict(store.meta),
            [file_md5(file) for file in code],
        ]
    )


def save(model: Any, processor: Any, folder: Path) -> None:
    """Write the adapter and the processor as a whole, in place of an earlier one."""
    staged = folder.with_name(f".{folder.name}-new")
    shutil.rmtree(staged, ignore_errors=True)
    model.save_pretrained(staged)
    processor.save_pretrained(staged)
    shutil.rmtree(folder, ignore_errors=True)
    staged.rename(folder)


def accelerator() -> Any:
    """Accelerate's, under `accelerate launch` with several processes; else None."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    from accelerate import Accelerator

    return Accelerator()


@dataclass(frozen=True)
class Trained:
    """What training left: numbers, history, the folder with `best`, who should write outputs."""

    found: dict[str, Any]
    history: Any
    folder: Path
    matched: list[str]
    seconds: float
    main: bool


def train(config: Config, log: Log = no_log) -> Trained:
    """Train, or go on training, on data/train.csv; the best epoch's adapter is in folder/best."""
    import torch

    from abo_vqa.models.blip import Blip
    from abo_vqa.training.batches import Examples
    from abo_vqa.training.checkpoints import Checkpoints
    from abo_vqa.training.loop import Trainer
    from abo_vqa.training.resident import nearest

    torch.set_num_threads(config.threads)
    table = read_table(TRAIN, ["image_path", "question", "answer"])
    store = EmbeddingStore.open(EMBEDDINGS)
    if not store.matches(config):
        raise UserError(f"{EMBEDDINGS} holds other weights' outputs: run the stage `embed`.")
    unreadable = table["image_path"].isin(list(store.errors))
    table = table[~unreadable].reset_index(drop=True)

    torch.manual_seed(config.seed)
    blip = Blip.load(config.models.blip, config.compute)
    dtype = blip.model.dtype  # of the arithmetic; trained weights stay in float32
    blip.model.float()
    model, matched = add_lora(blip.model, config)
    rows, held = hold_out(table, config)
    near = nearest(store, table["image_path"].tolist(), blip.device)
    text = blip.model.config.text_config
    examples = Examples(table, blip.processor.tokenizer, text.bos_token_id, text.sep_token_id, near)
    folder = scratch("finetune", journal_key(config, store))
    kept = Checkpoints(folder, config.lora.keep_checkpoints)
    trainer = Trainer(model, examples, rows, config.lora, config.seed, kept, dtype)
    trainer.accelerator = accelerator()
    main = trainer.accelerator is None or trainer.accelerator.is_main_process
    began = time.perf_counter()
    history = trainer.train(
        validator(blip, table, held or rows, near),
        lambda: save(model, blip.processor, folder / "best") if main else None,
        log,
    )
    found: dict[str, Any] = {
        "rows": len(rows),
        "held_out_rows": len(held),
        "images": int(table["image_path"].iloc[rows].nunique()),
        "best_epoch": history.best_epoch,
        "best_validation_accuracy": history.best_accuracy,
        "trainable_parameters": sum(p.numel() for p in trainer.trainable),
        "modules": len(matched),
    }
    return Trained(found, history, folder, matched, time.perf_counter() - began, main)


def run(config: Config, log: Log = no_log) -> Summary:
    """Write models/adapter and reports/training.json."""
    trained = train(config, log)
    found, history = trained.found, trained.history
    if trained.main:
        finish(config, trained.folder, found, history)
    speed = found["rows"] * config.lora.epochs / trained.seconds
    return Summary(
        f"{len(trained.matched)} layers, {found['trainable_parameters']:,} trainable parameters; "
        f"best epoch {history.best_epoch}: {history.best_accuracy:.3f} on "
        f"{found['held_out_rows']:,} held-out rows; {speed:,.0f} samples/s",
        metrics={
            **found,
            "samples_per_second": speed,
            "epoch_seconds": trained.seconds / config.lora.epochs,
            **memory(),
        },
        params={"matched_modules": ", ".join(trained.matched)},
        datasets={"training": TRAIN},
        artifacts=(HISTORY,),
        model=ADAPTER,
    )


def finish(config: Config, folder: Path, found: dict[str, Any], history: Any) -> None:
    """Move the best epoch's adapter to its place, with its card; write the history."""
    from abo_vqa.training.card import model_card

    best = folder / "best"
    (best / "README.md").write_text(model_card(config, found), encoding="utf-8")
    write_json({**found, "epochs": history.epochs, "steps": history.steps}, HISTORY)
    shutil.rmtree(ADAPTER, ignore_errors=True)
    ADAPTER.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(best, ADAPTER)
    shutil.rmtree(folder)


def memory() -> dict[str, float]:
    """Peak memory in bytes: the process's, and the GPU's where there is one."""
    import resource

    import torch

    found = {"peak_bytes": 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    if torch.cuda.is_available():
        found["peak_gpu_bytes"] = float(torch.cuda.max_memory_allocated())
    return found


def arguments(parser: argparse.ArgumentParser) -> None:
    """No ad-hoc options: everything is in params.yaml."""


def command(args: argparse.Namespace) -> int:
    return execute("finetune", run)
