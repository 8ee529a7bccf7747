"""Any image-text-to-text chat model of transformers: SmolVLM, Qwen-VL, Idefics and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.models.base import Answer, VQAModel, longest
from abo_vqa.models.decoding import end_tokens, until
from abo_vqa.models.loading import describe, load_pretrained, load_processor
from abo_vqa.models.pixels import pixel_dtype

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.config import CheckpointConfig, ComputeConfig


class Chat(VQAModel):
    """A user's message with the picture and the prompt, in the checkpoint's own chat template."""

    def __init__(
        self, model: Any, processor: Any, checkpoint: CheckpointConfig, device: Any
    ) -> None:
        self.model = model
        self.processor = processor
        self.checkpoint = checkpoint
        self.device = device

    @classmethod
    def load(cls, checkpoint: CheckpointConfig, compute: ComputeConfig) -> Chat:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        model, device = load_pretrained(AutoModelForImageTextToText, checkpoint, compute)
        processor = load_processor(AutoProcessor, checkpoint)
        processor.tokenizer.padding_side = "left"  # an answer continues its prompt
        return cls(model, processor, checkpoint, device)

    def see(self, prepared: Sequence[Image]) -> list[Image]:
        """The pictures: how a chat model lays one out in its prompt is its own affair."""
        return list(prepared)

    def text_lengths(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> tuple[list[int], int | None]:
        """Without the picture, whose tokens depend on its size: a text that fits may just not."""
        tokenizer = self.processor.tokenizer
        texts = [self.checkpoint.prompt.format(question=question) for question in questions]
        lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
        if choices is None:
            said = [self.checkpoint.max_new_tokens] * len(lengths)
        else:
            said = [longest(tokenizer, [f" {c}" for c in options]) for options in choices]
        room = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return [text + more for text, more in zip(lengths, said, strict=True)], room

    def inputs(self, encoded: Any, which: Sequence[int], questions: Sequence[str]) -> Any:
        """Padded model inputs of one message a row."""
        chats = [
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "image": encoded[place]},
                        {"type": "text", "text": self.checkpoint.prompt.format(question=question)},
                    ],
                }
            ]
            for place, question in zip(which, questions, strict=True)
        ]
        return self.processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            padding=True,
        ).to(self.device, pixel_dtype(self.model))

    def answer_encoded(
        self, encoded: Any, which: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        import torch

        inputs = self.inputs(encoded, which, questions)
        with torch.inference_mode():
            out = self.model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=self.checkpoint.max_new_tokens,
                return_dict_in_generate=True,
                output_logits=True,
            )
        said = out.sequences[:, inputs["input_ids"].shape[1] :]  # [B, answer]
        scores = torch.stack(out.logits, dim=1).float().log_softmax(-1)  # [B, answer, V]
        chosen = scores.gather(2, said[..., None])[..., 0].double()  # [B, answer]
        ends = end_tokens(self.model)
        answers = []
        for ids, log_p in zip(said.tolist(), chosen, strict=True):
            words = until(ids, ends)
            text = self.processor.tokenizer.decode(words, skip_special_tokens=True).strip()
            answers.append(Answer(text, float(log_p[: len(words) + 1].sum().exp())))
        return answers

    def rank_encoded(
        self,
        encoded: Any,
        which: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Sum of the log-probabilities of a choice's tokens after the prompt, without an end."""
        return [
            self.log_likelihoods(self.inputs(encoded, [place], [question]), options)
            for place, question, options in zip(which, questions, choices, strict=True)
        ]

    def log_likelihoods(self, inputs: Any, choices: Sequence[str]) -> list[float]:
        """Log-probability that one prompt's inputs go on with each of the choices."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        spelled = self.processor.tokenizer([f" {c}" for c in choices], add_special_tokens=False)
        words = [torch.tensor(ids) for ids in spelled["input_ids"]]
        said = pad_sequence(words, batch_first=True).to(self.device)  # [C, A], padded behind
        length, count = inputs["input_ids"].shape[1], len(choices)
        batch = {}
        for name, value in inputs.items():
            batch[name] = value.repeat(count, *[1] * (value.ndim - 1))
            if value.shape == inputs["input_ids"].shape:  # something for each token
                fill = {"input_ids": said, "attention_mask": torch.ones_like(said)}
                more = fill.get(name, torch.zeros_like(said))
                batch[name] = torch.cat([batch[name], more], dim=1)
        with torch.inference_mode():
            logits = self.model(**batch).logits[:, length - 1 : -1]  # [C, A, V]
        log_p = logits.float().log_softmax(-1).gather(2, said[..., None])[..., 0].double()
        return [float(row[: len(word)].sum()) for row, word in zip(log_p, words, strict=True)]

    def record(self) -> dict[str, Any]:
        return {
            **describe(self.checkpoint, self.model),
            "prompt": self.checkpoint.prompt,
            "decoding": f"greedy, at most {self.checkpoint.max_new_tokens} tokens",
        }
