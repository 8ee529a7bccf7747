"""What the plain library answers, one row at a time: processor, `generate`, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class LibraryAnswer:
    """One row's answer: its text, its tokens without the end token, their probability."""

    text: str
    tokens: list[int]
    confidence: float


class LibraryModel:
    """A checkpoint loaded by the library's auto classes.

    Args:
        folder: the checkpoint.
        prompt: the prompt with `{question}`; for a checkpoint without a chat template also with the
            image token, where the processor doesn't put it itself.
    """

    def __init__(self, folder: Path, prompt: str = "{question}") -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        self.prompt = prompt

    def inputs(self, image: Image, question: str) -> Any:
        """What the library makes of one image and one question."""
        prompt = self.prompt.format(question=question)
        if not getattr(self.processor, "chat_template", None):
            return self.processor(images=image, text=prompt, return_tensors="pt")
        content = [{"type": "image", "image": image}, {"type": "text", "text": prompt}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )

    def log_likelihood(self, image: Image, question: str, tokens: list[int]) -> float:
        """The summed log-probabilities of tokens after the prompt, from one forward pass."""
        inputs = dict(self.inputs(image, question))
        inputs.pop("labels", None)
        length = inputs["input_ids"].shape[1]
        more = torch.tensor([tokens])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], more], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        for types, of_answer in (("token_type_ids", self.answer_type), ("mm_token_type_ids", 0)):
            if types in inputs:
                added = torch.full_like(more, of_answer)
                inputs[types] = torch.cat([inputs[types], added], dim=1)
        with torch.inference_mode():
            logits = self.model(**inputs).logits[0, length - 1 : -1]
        return float(logits.double().log_softmax(-1).gather(1, more[0][:, None]).sum())

    @property
    def answer_type(self) -> int:
        """The token type of an answer: PaliGemma's attends to what is before it only."""
        return int(self.model.config.model_type == "paligemma")

    def answer(self, image: Image, question: str, max_new_tokens: int = 10) -> LibraryAnswer:
        """Answer greedily."""
        inputs = self.inputs(image, question)
        inputs.pop("labels", None)  # PaliGemma's processor gives them without being asked
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=max_new_tokens,
                return_dict_in_generate=True,
                output_logits=True,
            )
        tokens = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        steps = [logits[0].double().log_softmax(-1) for logits in output.logits]
        likelihood = sum(float(step[token]) for step, token in zip(steps, tokens, strict=True))
        ends = self.model.generation_config.eos_token_id
        kept = [
            token for token in tokens if token not in (ends if isinstance(ends, list) else [ends])
        ]
        text = self.processor.tokenizer.decode(kept, skip_special_tokens=True).strip()
        return LibraryAnswer(text, kept, float(torch.tensor(likelihood).exp()))
