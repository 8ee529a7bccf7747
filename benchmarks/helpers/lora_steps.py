"""Training steps on one BLIP with LoRA: the study's loop, written plainly, and `Trainer`'s own."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.real_size import QUESTIONS, photographs
from helpers.settings import study_lora
from peft import LoraConfig, get_peft_model

from abo_vqa.core.errors import UserError
from abo_vqa.training.checkpoints import CheckpointManager
from abo_vqa.training.dataset import VqaDataset
from abo_vqa.training.families.blip import BlipFamily
from abo_vqa.training.loop import Trainer
from abo_vqa.training.lora import add_lora
from abo_vqa.training.vision_cache import EncodedSource, VisionCache

ROWS, PICTURES = 36_373, 11_821  # the study's training rows and pictures
EPOCHS = 3
ANSWERS = ("word1", "word2", "word3 word4", "word5")
PADDED = 20  # tokens of an answer in the study's loop


class Table(dict[str, Any]):
    """The part of a data frame that `VqaDataset` uses, without pandas."""

    @property
    def columns(self) -> list[str]:
        return list(self)


def table_of(pictures: int) -> Table:
    """Three questions a picture."""
    at = [(i, k) for i in range(pictures) for k in range(3)]
    columns = {
        "image_path": [str(i) for i, _ in at],
        "question": [QUESTIONS[(3 * i + k) % len(QUESTIONS)] for i, k in at],
        "answer": [ANSWERS[(i + k) % len(ANSWERS)] for i, k in at],
    }
    return Table({name: np.array(values, dtype=object) for name, values in columns.items()})


class LoraSteps:
    """One BLIP in float32 with LoRA, some pictures and three questions about each.

    Args:
        blip: ours; its weights get LoRA.
        pictures: how many there are; beyond `drawn`, their vision outputs repeat.
        dtype: of ours' arithmetic; on a GPU the study's is float16 with a scaler, as it had.
        kept: of the vision outputs.
        settings: changes to the study's LoRA.
    """

    def __init__(
        self, blip: Any, pictures: int, batch: int, dtype: torch.dtype, kept: torch.dtype,
        drawn: int = 16, **settings: Any,
    ) -> None:  # fmt: skip
        self.blip, self.device, self.dtype = blip, blip.device, dtype
        with torch.no_grad():  # an end token that can't be said makes any loss a huge one
            blip.model.text_decoder.cls.predictions.decoder.bias.zero_()
        lora = study_lora(batch, **settings)
        untouched = copy.deepcopy(blip.model) if self.device.type == "cpu" else None
        family = BlipFamily(blip)
        self.model, _ = add_lora(family, lora)
        self.plain = self.model  # on a GPU its modules are the library's own, dropout as well
        if untouched is not None:
            wanted = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout,
                                target_modules=list(lora.targets))  # fmt: skip
            with warnings.catch_warnings():
                # PEFT asks transformers for an attribute by its old name.
                warnings.simplefilter("ignore", FutureWarning)
                self.plain = get_peft_model(untouched, wanted)
        self.drawn = photographs(min(pictures, drawn))
        self.table = table_of(pictures)
        paths = [str(i) for i in range(pictures)]
        cache = VisionCache(self.outputs(pictures, kept), paths, self.device)
        self.dataset = VqaDataset(self.table, family, EncodedSource(cache, blip))
        self.trainer = Trainer(
            self.model, self.dataset, range(3 * pictures), lora, 0,
            CheckpointManager(Path(tempfile.mkdtemp()), 1), dtype,
        )  # fmt: skip
        trained = [p for p in self.plain.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=lora.lr)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.device.type == "cuda")

    def outputs(self, pictures: int, kept: torch.dtype) -> torch.Tensor:
        """Vision outputs of all pictures, where production has them: in the device's memory."""
        outputs = [
            self.blip.encode_images(self.drawn[i : i + 8]) for i in range(0, len(self.drawn), 8)
        ]
        with torch.no_grad():
            some = torch.cat(outputs).to(kept, copy=True)
            again = torch.arange(pictures, device=self.device) % len(some)
            return some.index_select(0, again)

    def image(self, row: int) -> Any:
        return self.drawn[row // 3 % len(self.drawn)]

    def study(self, batch: int, prepared: bool = False) -> Callable[[], float]:
        """One step on `batch` rows in random order, their pictures encoded a row at a time.

        Args:
            prepared: leave resizing the pictures out, as if other processes did it ahead.
        """
        rows = np.random.default_rng(1).permutation(len(self.table["question"]))[:batch].tolist()
        rows = (rows * batch)[:batch]
        processor = self.blip.processor
        images = [self.image(row) for row in rows]
        questions = [self.table["question"][row] for row in rows]
        answers = [self.table["answer"][row] for row in rows]

        def inputs() -> Any:
            return processor(images=images, text=questions, padding=True, return_tensors="pt")

        ready = inputs() if prepared else None

        def step() -> float:
            self.plain.train()
            given = (ready or inputs()).to(self.device)
            labels = processor.tokenizer(
                answers, padding="max_length", max_length=PADDED, return_tensors="pt"
            ).input_ids.to(self.device)
            with self.half(torch.float16 if self.device.type == "cuda" else torch.float32):
                loss = self.plain(**given, labels=labels).loss
            torch.autograd.backward(self.scaler.scale(loss.sum()))
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            return float(loss.detach().sum())

        return step

    def half(self, dtype: torch.dtype) -> AbstractContextManager[Any]:
        """Autocast to a half precision, or nothing."""
        if dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype)

    def ours(self, batch: int, grouped: bool = True) -> Callable[[], float]:
        """`Trainer`'s step on the same number of rows (whole pictures if `grouped`).

        It raises if memory runs out, where production would go on in smaller parts.
        """
        count = len(self.table["question"])
        rows = [(i if grouped else 3 * i) % count for i in range(batch)]

        def step() -> float:
            self.model.train()
            state, loss = self.trainer.state, 0.0
            parts = state.micro_batches
            try:
                loss = self.trainer.step(rows, self.trainer.loader.load(rows)).loss
            except UserError as error:  # not even a single picture fits
                raise torch.OutOfMemoryError(str(error)) from error
            finally:
                cut = state.micro_batches > parts
                state.micro_batches = parts
            if cut:
                raise torch.OutOfMemoryError("out of memory: the batch was cut into parts")
            return loss

        return step

    def encode(self, pictures: int) -> Callable[[], Any]:
        """What the stage `embed` does for some pictures."""
        return lambda: self.blip.encode_images(self.drawn[:pictures]).shape

    def see(self, pictures: int) -> Callable[[], Any]:
        """`encode` of pictures that another thread has prepared."""
        prepared = self.blip.preprocess(self.drawn[:pictures])
        return lambda: self.blip.encode(prepared).shape

    # ---- exactness

    def stir(self) -> None:
        """Give LoRA's second matrices values: at 0 the first ones would have no gradient."""
        torch.manual_seed(1)
        for name, parameter in self.model.named_parameters():
            if "lora_B" in name:
                with torch.no_grad():
                    parameter.normal_(0.0, 0.02)

    def library(self, rows: Sequence[int]) -> tuple[float, dict[str, torch.Tensor]]:
        """The library's loss and gradients: its own forward on a row at a time, unpadded."""
        tokenizer, tokens = self.blip.processor.tokenizer, self.dataset.answer_tokens(rows)
        total = 0.0
        self.model.zero_grad()
        for row in rows:
            inputs = self.blip.processor(images=self.image(row), return_tensors="pt")
            inputs |= tokenizer(self.table["question"][row], return_tensors="pt")
            answer = self.dataset.texts[row].answer[None].to(self.device)
            with self.half(self.dtype):
                loss = self.model(
                    **{name: value.to(self.device) for name, value in inputs.items()},
                    decoder_input_ids=answer, labels=answer,
                ).loss  # fmt: skip
            loss = loss * (answer.shape[1] - 1) / tokens
            torch.autograd.backward(loss * self.scale)
            total += float(loss.detach())
        return total, self.taken(self.scale)

    def together(self, rows: Sequence[int]) -> tuple[float, dict[str, torch.Tensor]]:
        """Ours: the trainer's loss and gradients of the rows in one padded batch."""
        self.trainer.state.scaler = torch.amp.GradScaler(
            self.device.type, init_scale=self.scale, enabled=self.scale > 1
        )
        self.model.zero_grad()
        batch = list(rows)
        loss, full = self.trainer.step.backward(batch, self.trainer.loader.load(batch))
        if full:
            raise torch.OutOfMemoryError("out of memory while comparing gradients")
        return loss, self.taken(self.scale)

    @property
    def scale(self) -> float:
        """What losses are multiplied with, so that float16 holds their gradients."""
        return 1024.0 if self.dtype == torch.float16 and self.device.type == "cuda" else 1.0

    def taken(self, scale: float) -> dict[str, torch.Tensor]:
        """Gradients by name, on the CPU."""
        return {
            name: parameter.grad.detach().float().cpu() / scale
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None
        }
