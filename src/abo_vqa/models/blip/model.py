"""BLIP for visual question answering (Li et al., 2022, arXiv:2201.12086)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from transformers import BlipForQuestionAnswering, BlipProcessor

from abo_vqa.core.errors import UserError
from abo_vqa.models.answers import Answer, CandidateAnswers, likeliest
from abo_vqa.models.base import group_by_length, max_token_count
from abo_vqa.models.blip.absorbed import cheapest_cross_attention
from abo_vqa.models.blip.attention import encode_questions
from abo_vqa.models.blip.decoder import AnswerDecoder
from abo_vqa.models.blip.ranking import AnswerScorer, top_candidates
from abo_vqa.models.blip.vision import vision_forward
from abo_vqa.models.decoding import greedy
from abo_vqa.models.pixels import pixel_dtype, process_images
from abo_vqa.models.pretrained import PretrainedVQAModel
from abo_vqa.models.record import checkpoint_record

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PreTrainedModel

    from abo_vqa.core.config import CheckpointConfig


class Blip(PretrainedVQAModel):
    """A vision tower, a question encoder with cross-attention to the image, an answer decoder.

    The vision tower doesn't depend on the question, so its output is computed once per image; the
    stage `embed` stores it. Attention and decoding are this project's own: transformers' BLIP drops
    the mask of the question's padding, so that padding changes answers, and projects the image's
    tokens again for every question (docs/benchmarks.md, "Baselines").

    Shapes: B questions of L tokens about N images of T tokens; text width W, vision width V.
    """

    model_class: ClassVar[Any] = BlipForQuestionAnswering
    processor_class: ClassVar[Any] = BlipProcessor
    vision_modules: ClassVar[tuple[str, ...]] = ("vision_model",)
    supported_settings: tuple[str, ...] = ("dtype", "quantize")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of pixel values and of the vision tower's output."""
        return pixel_dtype(self.model)

    @classmethod
    def check_devices(
        cls, checkpoint: CheckpointConfig, model: PreTrainedModel | None = None
    ) -> None:
        """Refuse several devices.

        The attention here calls submodules directly, without the hooks that move states between
        devices.

        Args:
            checkpoint: the checkpoint's settings.
            model: the loaded model; None before.

        Raises:
            UserError: the model is spread over several devices, or would be.
        """
        if model is None:
            spread = bool(checkpoint.device_map) and torch.cuda.device_count() > 1
        else:
            spread = len(set(getattr(model, "hf_device_map", {}).values())) > 1
        if spread:
            raise UserError(
                f"{checkpoint.path}: device_map {checkpoint.device_map} spreads it over several "
                "devices, and BLIP runs on one. Set device_map to null; quantize: 8bit or 4bit "
                "takes less memory."
            )

    def preprocess(self, images: Sequence[Image]) -> Tensor:
        """Return pixel values [N, 3, side, side]."""
        return process_images(self.processor, images, self.dtype)

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Return the vision tower's output [N, T, V] for pixel values [N, 3, side, side]."""
        with torch.inference_mode():
            return vision_forward(self.model.vision_model, pixel_values.to(self.device))

    @property
    def encoded_shape(self) -> tuple[int, int]:
        """T patches and the class token, of the tower's width V."""
        vision = self.model.config.vision_config
        return (vision.image_size // vision.patch_size) ** 2 + 1, vision.hidden_size

    def split_encoded(self, encoded: Tensor) -> tuple[Tensor, str]:
        """Return an image's vision output [T, V]; there is nothing else."""
        return encoded, ""

    def join_encoded(self, matrices: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        """Return the vision outputs of several images, [N, T, V]."""
        del texts  # empty
        stacked: Any = matrices
        return stacked if isinstance(stacked, Tensor) else torch.stack(list(matrices))

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
                step = AnswerDecoder(self.model.text_decoder, states, mask)
                logits = step(self._start(len(rows)))
                decoded = greedy(logits, step, {self._end_token}, self.checkpoint.max_new_tokens)
                for row, (ids, probability) in zip(rows, decoded, strict=True):
                    text = self.processor.decode(ids, skip_special_tokens=True).strip()
                    answers[row] = Answer(text, probability)
        return [answers[row] for row in range(len(questions))]

    def _start(self, batch: int) -> Tensor:
        """The start tokens [B, 1] of a batch of answers."""
        return torch.full((batch, 1), self.model.decoder_start_token_id, device=self.device)

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
                options = [choice for row in rows for choice in choices[row]]
                counts = torch.tensor([len(choices[row]) for row in rows])
                scorer = self._answer_scorer(states, mask, options)
                values = scorer.log_likelihoods(
                    torch.arange(len(rows)).repeat_interleave(counts), torch.arange(len(options))
                )
                parts = torch.split(values, counts.tolist())
                scores |= {row: part.tolist() for row, part in zip(rows, parts, strict=True)}
        return [scores[row] for row in range(len(questions))]

    def rank_answers(
        self,
        encoded: Tensor,
        image_index: Sequence[int],
        questions: Sequence[str],
        candidates: CandidateAnswers,
    ) -> list[Answer]:
        """Rank as the base class does, with each question encoded once."""
        answers: dict[int, Answer] = {}
        texts = candidates.pool
        with torch.inference_mode():
            for rows, states, mask in self._encode_questions(encoded, image_index, questions):
                scorer = self._answer_scorer(states, mask, texts)
                chosen = top_candidates(scorer.first_token_log_probs(), candidates.k)  # [B, k]
                batch, k = chosen.shape
                pairs = torch.arange(batch).repeat_interleave(k), chosen.flatten()
                scores = scorer.log_likelihoods(*pairs).view(batch, k).tolist()
                for row, positions, values in zip(rows, chosen.tolist(), scores, strict=True):
                    answers[row] = likeliest([texts[i] for i in positions], values)
        return [answers[row] for row in range(len(questions))]

    def _answer_scorer(self, states: Tensor, mask: Tensor, texts: Sequence[str]) -> AnswerScorer:
        """Prepare to score texts, each with the end token, as answers to encoded questions."""
        tokens = self.processor.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        answers = [[*ids, self._end_token] for ids in tokens]
        return AnswerScorer(
            AnswerDecoder(self.model.text_decoder, states, mask), self._start(len(states)), answers
        )

    def record(self) -> dict[str, Any]:
        """Return the checkpoint and the way of decoding."""
        return {
            **checkpoint_record(self.checkpoint, self.model),
            "prompt": "{question}",
            "decoding": f"greedy, at most {self.checkpoint.max_new_tokens} tokens",
        }
