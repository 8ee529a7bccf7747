"""Stage `finetune`: LoRA (Hu et al., 2022, arXiv:2106.09685) on BLIP's text encoder and decoder."""

from __future__ import annotations

import argparse
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.config import Config, Lora
from abo_vqa.embed import EmbeddingStore
from abo_vqa.errors import UserError
from abo_vqa.groups import group_rows
from abo_vqa.io import progress, read_table, write_json
from abo_vqa.metrics.normalise import norm
from abo_vqa.stage import Log, Summary, execute, no_log

if TYPE_CHECKING:
    import pandas as pd
    import torch

TRAIN, ADAPTER, HISTORY = (
    Path("data/train.csv"),
    Path("models/adapter"),
    Path("reports/training.json"),
)


def hold_out(table: pd.DataFrame, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Positions to train on and to validate on; no image is in both."""
    from sklearn.model_selection import GroupShuffleSplit

    if share == 0:
        return list(range(len(table))), []
    splitter = GroupShuffleSplit(n_splits=1, test_size=share, random_state=seed)
    groups = group_rows(table, "image", 0)
    train, validation = next(splitter.split(table, groups=groups))
    return train.tolist(), validation.tolist()


class Examples:
    """Tokenised rows: questions as lists of ids, answers with begin and end markers."""

    def __init__(self, table: pd.DataFrame, processor: Any, start: int, end: int) -> None:
        tokenizer = processor.tokenizer
        self.paths = table["image_path"].tolist()
        self.questions = tokenizer(table["question"].tolist())["input_ids"]
        spelled = tokenizer(
            [answer.lower() for answer in table["answer"]], add_special_tokens=False
        )["input_ids"]
        self.answers = [[start, *ids, end] for ids in spelled]

    def batch(self, rows: Sequence[int], store: EmbeddingStore) -> dict[str, torch.Tensor]:
        """Tensors of rows whose questions have equal length: B rows, L tokens, A answer tokens."""
        import torch

        longest = max(len(self.answers[i]) for i in rows)
        filled = [self.answers[i] + [-100] * (longest - len(self.answers[i])) for i in rows]
        answers = torch.tensor(filled)  # [B, A]
        paths = [self.paths[i] for i in rows]
        distinct = list(dict.fromkeys(paths))
        place = torch.tensor([distinct.index(path) for path in paths])
        return {
            "questions": torch.tensor([self.questions[i] for i in rows]),  # [B, L]
            "seen": store.get(distinct)[place],  # [B, tokens, W]
            "inputs": answers[:, :-1].clamp(min=0),  # [B, A-1] what the decoder is given
            "labels": answers[:, 1:].contiguous(),  # [B, A-1] what it should say; -100 on pads
        }


def batches(
    examples: Examples, rows: Sequence[int], size: int, chance: random.Random
) -> list[list[int]]:
    """Random batches of questions of equal length, so that nothing is padded."""
    rows = list(rows)
    chance.shuffle(rows)
    by_length: dict[int, list[int]] = {}
    for row in rows:
        by_length.setdefault(len(examples.questions[row]), []).append(row)
    cut = [g[i : i + size] for g in by_length.values() for i in range(0, len(g), size)]
    chance.shuffle(cut)
    return cut


def answer_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy of the answers' tokens, pads left out."""
    import torch.nn.functional as F

    base = model.get_base_model()
    states = base.text_encoder(
        input_ids=batch["questions"], encoder_hidden_states=batch["seen"]
    ).last_hidden_state  # [B, L, W]
    logits = base.text_decoder(
        input_ids=batch["inputs"],
        attention_mask=(batch["labels"] != -100).long(),
        encoder_hidden_states=states,
        use_cache=False,
    ).logits  # [B, A-1, V]
    return F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100)


def wrap(blip: Any, settings: Lora, path: str, revision: str | None) -> tuple[Any, list[str]]:
    """Put LoRA on the targeted layers; return the PEFT model and the names that matched."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        base_model_name_or_path=path,
        revision=revision,
    )
    try:
        model = get_peft_model(blip, config)
    except ValueError as error:
        names = sorted(
            {n.rsplit(".", 1)[-1] for n, m in blip.named_modules() if hasattr(m, "weight")}
        )
        raise UserError(
            f"lora.targets {list(settings.targets)} match no layer; there are: {', '.join(names)}."
        ) from error
    return model, sorted(model.targeted_module_names)


def schedule(settings: Lora, steps: int) -> Any:
    """Learning rate's factor at a step: warm-up, then linear, cosine or constant."""
    import math

    warm = int(settings.warmup * steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        left = 1 - (step - warm) / max(1, steps - warm)
        if settings.schedule == "constant":
            return 1.0
        return left if settings.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))

    return factor


def run(config: Config, log: Log = no_log) -> Summary:
    """Write models/adapter and reports/training.json."""
    import torch

    from abo_vqa.models.blip import Blip

    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    settings = config.lora
    blip = Blip.load(config.models.blip, config.compute)
    blip.model.float()
    store = EmbeddingStore.open()
    table = read_table(TRAIN, ["image_path", "question", "answer"])
    examples = Examples(
        table,
        blip.processor,
        blip.model.decoder_start_token_id,
        blip.model.config.text_config.sep_token_id,
    )
    train, validation = hold_out(table, settings.validation, config.seed)
    model, matched = wrap(
        blip.model, settings, config.models.blip.path, config.models.blip.revision
    )
    trainable = [p for p in model.parameters() if p.requires_grad]
    chance = random.Random(config.seed)
    plan = [batches(examples, train, settings.batch_size, chance) for _ in range(settings.epochs)]
    optimizer = torch.optim.AdamW(trainable, lr=settings.lr, weight_decay=settings.weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, schedule(settings, sum(map(len, plan)))
    )
    history: dict[str, list[dict[str, float]]] = {"steps": [], "epochs": []}
    best, step, began = -1.0, 0, time.perf_counter()
    for epoch, cut in enumerate(plan, start=1):
        model.train()
        for rows in progress(cut, total=len(cut), desc=f"epoch {epoch}", unit="batch"):
            loss = answer_loss(model, examples.batch(rows, store))
            loss.backward()
            if settings.max_grad_norm:
                torch.nn.utils.clip_grad_norm_(trainable, settings.max_grad_norm)
            rate = scheduler.get_last_lr()[0]
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            seen = {"loss": float(loss.detach()), "lr": rate}
            history["steps"].append({"step": step, "epoch": epoch, **seen})
            log(seen, step)
        model.eval()
        accuracy = validate(blip, model, table, validation or train, store)
        history["epochs"].append({"epoch": epoch, "validation_accuracy": accuracy})
        log({"validation_accuracy": accuracy}, step)
        if accuracy > best:
            best, best_epoch = accuracy, epoch
            save(model, blip.processor)
    seconds = time.perf_counter() - began
    found = {
        "best_epoch": best_epoch,
        "best_validation_accuracy": best,
        "trainable_parameters": sum(p.numel() for p in trainable),
        "modules": len(matched),
    }
    write_json({**found, **history}, HISTORY)
    samples = len(train) * settings.epochs / seconds
    return Summary(
        f"{len(matched)} layers, {found['trainable_parameters']:,} trainable parameters; "
        f"best epoch {best_epoch} with {best:.3f} on held-out rows; {samples:,.0f} samples/s",
        metrics={**found, "samples_per_second": samples},
        params={"matched_modules": ", ".join(matched)},
        datasets={"training": TRAIN},
        artifacts=(HISTORY,),
        model=ADAPTER,
    )


def validate(
    blip: Any, model: Any, table: pd.DataFrame, rows: Sequence[int], store: EmbeddingStore
) -> float:
    """Share of rows answered exactly, after normalisation."""
    right = 0
    for part in chunks(rows, 128):
        chosen = table.iloc[part]
        paths = chosen["image_path"].tolist()
        said = blip.answer_encoded(store.get(paths), range(len(paths)), chosen["question"].tolist())
        right += sum(norm(a.text) == norm(t) for a, t in zip(said, chosen["answer"], strict=True))
    return right / len(rows)


def chunks(rows: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])


def save(model: Any, processor: Any) -> None:
    """Write the adapter and the processor, replacing an earlier epoch's as a whole."""
    staged = ADAPTER.with_name(".adapter-new")
    shutil.rmtree(staged, ignore_errors=True)
    model.save_pretrained(staged)
    processor.save_pretrained(staged)
    shutil.rmtree(ADAPTER, ignore_errors=True)
    staged.rename(ADAPTER)


def arguments(parser: argparse.ArgumentParser) -> None:
    """No ad-hoc options."""


def command(args: argparse.Namespace) -> int:
    return execute("finetune", run)
