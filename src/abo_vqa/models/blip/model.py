"""BLIP for visual question answering (Li et al., 2022, arXiv:2201.12086)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import BlipForQuestionAnswering, BlipProcessor

from abo_vqa.core.errors import UserError
from abo_vqa.models.adapters import Adapter
from abo_vqa.models.base import Answer, group_by_length, max_token_count
from abo_vqa.models.blip.absorbed import cheapest_cross_attention
from abo_vqa.models.blip.attention import answer_logits, encode_questions
from abo_vqa.models.blip.decoder import AnswerDecoder
from abo_vqa.models.blip.vision import vision_forward
from abo_vqa.models.decoding import greedy
from abo_vqa.models.loading import load_pretrained, load_processor
from abo_vqa.models.pixels import pixel_dtype, process_images
from abo_vqa.models.pretrained import PretrainedVQAModel
from abo_vqa.models.record import checkpoint_record

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.core.config import CheckpointConfig, ComputeConfig

_IGNORED = -100  # label of padding


class Blip(PretrainedVQAModel):
    """A vision tower, a question encoder with cross-attention to the image, an answer decoder.

    The vision tower doesn't depend on the question, so its output is computed once per image; the
    stage `embed` stores it. Attention and decoding are this project's own: transformers' BLIP drops
    the mask of the question's padding, so that padding changes answers, and projects the image's
    tokens again for every question (docs/benchmarks.md, "Baselines").

    Shapes: B questions of L tokens about N images of T tokens; text width W, vision width V.
    """

    supported_settings: tuple[str, ...] = ("dtype", "quantize")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of pixel values and of the vision tower's output."""
        return pixel_dtype(self.model)

    @classmethod
    def load(
        cls,
        checkpoint: CheckpointConfig,
        compute: ComputeConfig,
        adapter: Path | None = None,
        dtype: torch.dtype | None = None,
    ) -> Blip:
        """Load the weights, and a LoRA adapter if one is given.

        With an adapter all of the model is in float32: what it adds to a weight is often smaller
        than a step of half precision.

        Args:
            checkpoint: the checkpoint's settings.
            compute: the device and the default dtype.
            adapter: a PEFT folder.
            dtype: overrides the dtype of the settings.

        Returns:
            The model in evaluation mode.

        Raises:
            UserError: the checkpoint or the adapter can't be loaded, or they don't match.
        """
        peft_adapter = None if adapter is None else Adapter.read(adapter)
        if peft_adapter is not None:
            peft_adapter.check_base(checkpoint)
            dtype = torch.float32
        # The attention here calls submodules directly, without the hooks that move states between
        # devices.
        several_devices = UserError(
            f"{checkpoint.path}: device_map {checkpoint.device_map} spreads it over several "
            "devices, and BLIP runs on one. Set device_map to null; quantize: 8bit or 4bit "
            "takes less memory."
        )
        if checkpoint.device_map and torch.cuda.device_count() > 1:
            raise several_devices
        # If the caller sets the dtype, changing it in the profile would have no effect.
        supported = cls.supported_settings if dtype is None else ("quantize",)
        model, device = load_pretrained(
            BlipForQuestionAnswering, checkpoint, compute, dtype, supported
        )
        if len(set(getattr(model, "hf_device_map", {}).values())) > 1:
            raise several_devices
        processor = load_processor(BlipProcessor, checkpoint)
        if peft_adapter is not None:
            combine = peft_adapter.attach if checkpoint.quantize else peft_adapter.merge
            model = combine(model).eval().requires_grad_(False)
        blip = cls(model, processor, checkpoint, device)
        blip.supported_settings = supported
        return blip

    def preprocess(self, images: Sequence[Image]) -> Tensor:
        """Return pixel values [N, 3, side, side]."""
        return process_images(self.processor, images, self.dtype)

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Return the vision tower's output [N, T, V] for pixel values [N, 3, side, side]."""
        with torch.inference_mode():
            return vision_forward(self.model.vision_model, pixel_values.to(self.device))

    def split_encoded(self, encoded: Tensor) -> tuple[Tensor, str]:
        """Return an image's vision output [T, V]; there is nothing else."""
        return encoded, ""

    def join_encoded(self, matrices: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        """Return the vision outputs of several images, [N, T, V]."""
        del texts  # empty
        return torch.stack(list(matrices))

    def text_lengths(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> tuple[list[int], int]:
        """Count a question's tokens, or a choice's if it is longer."""
        lengths = [len(ids) for ids in self.processor.tokenizer(list(questions))["input_ids"]]
        maximum: int = self.model.config.text_config.max_position_embeddings
        # The decoder has as many positions for an answer, its start token included.
        for i, options in enumerate(choices or ()):
            lengths[i] = max(lengths[i], max_token_count(self.processor.tokenizer, options) + 1)
        return lengths, maximum

    def predict_answers(
        self, encoded: Tensor, image_index: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        """Decode answers greedily; `encoded` is [N, T, V]."""
        answers: dict[int, Answer] = {}
        with torch.inference_mode():
            for rows, states, mask in self._encode_questions(encoded, image_index, questions):
                start = self.model.decoder_start_token_id
                step = AnswerDecoder(self.model.text_decoder, states, mask)
                logits = step(torch.full((len(rows), 1), start, device=self.device))
                decoded = greedy(logits, step, {self._end_token}, self.checkpoint.max_new_tokens)
                for row, (ids, probability) in zip(rows, decoded, strict=True):
                    text = self.processor.decode(ids, skip_special_tokens=True).strip()
                    answers[row] = Answer(text, probability)
        return [answers[row] for row in range(len(questions))]

    @property
    def _end_token(self) -> int:
        """The token that ends an answer."""
        return int(self.model.config.text_config.sep_token_id)

    def _encode_questions(
        self, encoded: Tensor, image_index: Sequence[int], questions: Sequence[str]
    ) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Encode questions in groups whose images have equally many questions.

        Within a group the questions of an image are consecutive, so that its keys and values can be
        projected once for all of them.

        Args:
            encoded: [N, T, V], the vision tower's output.
            image_index: for each question, its image's position in `encoded`.
            questions: all questions.

        Yields:
            Positions of B of the questions, their states [B, L, W] and mask [B, L].
        """
        counts = Counter(image_index)
        for rows in group_by_length([counts[image] for image in image_index]):
            rows.sort(key=lambda row: image_index[row])
            tokens = self.processor.tokenizer(
                [questions[row] for row in rows], padding=True, return_tensors="pt"
            )
            used = sorted({image_index[row] for row in rows})
            images = encoded[torch.tensor(used)].to(self.device, self.dtype)
            position = {image: i for i, image in enumerate(used)}
            group_index = torch.tensor([position[image_index[row]] for row in rows])
            input_ids, mask = tokens["input_ids"].to(self.device), tokens["attention_mask"]
            states = encode_questions(
                self.model.text_encoder,
                input_ids,
                mask,
                images,
                group_index,
                cheapest_cross_attention,
            )
            yield rows, states, mask

    def score_choices(
        self,
        encoded: Tensor,
        image_index: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Sum the log-probabilities of each choice's tokens and of the end token after them."""
        scores: dict[int, list[float]] = {}
        with torch.inference_mode():
            for rows, states, mask in self._encode_questions(encoded, image_index, questions):
                for i, row in enumerate(rows):
                    scores[row] = self._log_likelihoods(states[i], mask[i], choices[row])
        return [scores[row] for row in range(len(questions))]

    def _log_likelihoods(self, states: Tensor, mask: Tensor, choices: Sequence[str]) -> list[float]:
        """Compute the log-probability of each choice, end token included, for one question.

        Args:
            states: [L, W], the encoded question.
            mask: [L], nonzero where it isn't padding.
            choices: C possible answers.

        Returns:
            C log-probabilities.
        """
        tokens = self.processor.tokenizer(list(choices), add_special_tokens=False)["input_ids"]
        labels = pad_sequence(
            [torch.tensor([*ids, self._end_token]) for ids in tokens], True, _IGNORED
        ).to(self.device)  # [C, A]
        start = torch.full_like(labels[:, :1], self.model.decoder_start_token_id)
        input_ids = torch.cat([start, labels[:, :-1].clamp(min=0)], dim=1)  # [C, A]
        count = len(labels)
        logits = answer_logits(
            self.model.text_decoder,
            input_ids,
            states.expand(count, -1, -1),
            mask.expand(count, -1),
        )  # [C, A, vocabulary]
        log_probs = logits.float().log_softmax(-1)
        log_probs = log_probs.gather(2, labels.clamp(min=0)[..., None])[..., 0]  # [C, A]
        scores: list[float] = log_probs.double().where(labels != _IGNORED, 0.0).sum(1).tolist()
        return scores

    def record(self) -> dict[str, Any]:
        """Return the checkpoint and the way of decoding."""
        return {
            **checkpoint_record(self.checkpoint, self.model),
            "prompt": "{question}",
            "decoding": f"greedy, at most {self.checkpoint.max_new_tokens} tokens",
        }
