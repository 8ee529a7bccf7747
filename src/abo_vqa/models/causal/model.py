"""The contract's implementation for decoder-only models of transformers.

An image's vision output is computed once and handed to the library's own forward pass, which merges
it with the text and builds the masks that the architecture needs. Prefill and decoding are this
project's own, so that an image and what precedes the question go through the language model once
for all of its questions.

Shapes: B questions about N images; T tokens of an image; vocabulary V.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForImageTextToText, AutoProcessor

from abo_vqa.models.answers import Answer
from abo_vqa.models.causal.architectures import ARCHITECTURES, Architecture
from abo_vqa.models.causal.images import (
    PixelInputs,
    encoder_output,
    process_image,
    vision_features,
)
from abo_vqa.models.causal.positions import prompt_positions
from abo_vqa.models.causal.prefill import Prefilled, Prompt, Segment, like_lengths, prefill
from abo_vqa.models.causal.prompts import PromptBuilder
from abo_vqa.models.decoding import decoding_of, end_tokens_of, extract_answer, greedy
from abo_vqa.models.encoded import EncodedImage, ImageLayout
from abo_vqa.models.pixels import pixel_dtype
from abo_vqa.models.pretrained import PretrainedVQAModel
from abo_vqa.models.record import checkpoint_record

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    from abo_vqa.core.config import CheckpointConfig

_SAMPLE_SIDE = 256  # pixels; what ABO's small images have


class CausalVQAModel(PretrainedVQAModel):
    """A language model that continues a prompt with an image's tokens in it.

    Attributes:
        counts_end: whether an answer's likelihood includes that of the end token. Models that
            weren't trained to stop after a word would prefer long answers otherwise.
    """

    model_class: ClassVar[Any] = AutoModelForImageTextToText
    processor_class: ClassVar[Any] = AutoProcessor
    prompt_builder: ClassVar[type[PromptBuilder]] = PromptBuilder
    counts_end: bool = False

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        checkpoint: CheckpointConfig,
        device: torch.device,
    ) -> None:
        super().__init__(model, processor, checkpoint, device)
        self.architecture: Architecture = ARCHITECTURES[self.model.config.model_type]
        self.image_token: int = self.model.config.image_token_id
        self.prompts = self.prompt_builder(
            self.processor, self.checkpoint.prompt, end_tokens_of(self.decoder)
        )
        self._placeholder: str = self.processor.tokenizer.convert_ids_to_tokens(self.image_token)
        self._sample_layout: ImageLayout | None = None

    @property
    def decoder(self) -> PreTrainedModel:
        """The model whose generation settings apply."""
        return self.model

    # Images

    def preprocess(self, images: Sequence[Image.Image]) -> list[PixelInputs]:
        """Prepare each image by itself."""
        dtype = pixel_dtype(self.model)
        return [process_image(self.processor, image, dtype) for image in images]

    def encode(self, pixel_values: Sequence[PixelInputs]) -> list[EncodedImage]:
        """Run the vision part and the projection into the language model's space."""
        with torch.inference_mode():
            return self.encode_pixels(pixel_values)

    def encode_pixels(self, images: Sequence[PixelInputs]) -> list[EncodedImage]:
        """Run the vision part, with gradients where they are recorded.

        Args:
            images: the result of `preprocess`.
        """
        moved = [
            PixelInputs({k: v.to(self.device) for k, v in image.tensors.items()}, image.layout)
            for image in images
        ]
        counts = [image.layout.text.count(self._placeholder) for image in images]
        features = vision_features(self.model, moved, counts)
        return [
            EncodedImage(tokens, image.layout)
            for tokens, image in zip(features, images, strict=True)
        ]

    def split_encoded(self, encoded: EncodedImage) -> tuple[Tensor, str]:
        """Return an image's features [T, W] and its layout."""
        return encoded.features, encoded.layout.to_json()

    def join_encoded(self, matrices: Sequence[Tensor], texts: Sequence[str]) -> list[EncodedImage]:
        """Undo `split_encoded`."""
        return [
            EncodedImage(matrix, ImageLayout.from_json(text))
            for matrix, text in zip(matrices, texts, strict=True)
        ]

    # Prompts

    def make_prompt(self, image: EncodedImage, question: str) -> Prompt:
        """Return a question about an image as the language model reads it.

        Args:
            image: the encoded image.
            question: the question.
        """
        ids = self.prompts.tokenize(question, image.layout)
        text_start = len(ids) - ids[::-1].index(self.image_token)
        positions = prompt_positions(self.model, self.architecture, ids, image.layout.grid)
        return Prompt(image, ids, positions, text_start)

    def text_lengths(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> tuple[list[int], int | None]:
        """Count the tokens of the prompts, an image's included, and those of the answer."""
        if self._sample_layout is None:
            blank = Image.new("RGB", (_SAMPLE_SIDE, _SAMPLE_SIDE), "gray")
            self._sample_layout = self.preprocess([blank])[0].layout
        layout = self._sample_layout
        lengths = [len(self.prompts.tokenize(question, layout)) for question in questions]
        if choices is None:
            # The last new token isn't fed back.
            answers = [self.checkpoint.max_new_tokens - 1] * len(lengths)
        else:
            tokens = self.prompts.answer_tokens
            answers = [max((len(tokens(c)) for c in options), default=0) for options in choices]
        text = self.model.config.get_text_config()
        maximum: int | None = getattr(text, "max_position_embeddings", None)
        return [prompt + answer for prompt, answer in zip(lengths, answers, strict=True)], maximum

    def question_errors(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        """Check the questions; one that contains the image token would shift the image."""
        forbidden = self.prompts.forbidden()
        written = [next((t for t in forbidden if t in question), "") for question in questions]
        asked = [q if not token else "?" for q, token in zip(questions, written, strict=True)]
        errors = super().question_errors(asked, choices)
        return [
            f"the question contains {token}, which stands for an image" if token else error
            for token, error in zip(written, errors, strict=True)
        ]

    # Answers

    def predict_answers(
        self, encoded: Sequence[EncodedImage], image_index: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        """Continue the prompts greedily, those of like lengths together."""
        prompts = [
            self.make_prompt(encoded[image], question)
            for image, question in zip(image_index, questions, strict=True)
        ]
        answers: dict[int, Answer] = {}
        for rows in like_lengths(prompts, self._must_not_pad(prompts)):
            with torch.inference_mode():
                decoded = self._generate([prompts[row] for row in rows])
            for row, (ids, probability) in zip(rows, decoded, strict=True):
                text = self.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
                answers[row] = Answer(extract_answer(text, self.checkpoint.answer), probability)
        return [answers[row] for row in range(len(questions))]

    def _must_not_pad(self, prompts: Sequence[Prompt]) -> bool:
        """Whether padding would matter: a sliding window counts padded positions as well."""
        window = getattr(self.model.config.get_text_config(), "sliding_window", None)
        longest = max((len(prompt.ids) for prompt in prompts), default=0)
        return window is not None and 2 * longest + self.checkpoint.max_new_tokens > window

    def _generate(self, prompts: Sequence[Prompt]) -> list[tuple[list[int], float]]:
        """Continue each prompt greedily.

        Args:
            prompts: B prompts.

        Returns:
            For each prompt the new tokens and their probability.
        """
        state = self._prefill(prompts)

        def decode_step(input_ids: Tensor) -> Tensor:
            ones = state.mask.new_ones(len(input_ids), 1)
            state.mask = torch.cat([state.mask, ones], dim=1)
            segment = Segment(input_ids, (), state.positions, state.mask, state.cache)
            output = self.forward(segment)
            state.cache, state.positions = output.past_key_values, state.positions + 1
            last: Tensor = output.logits[:, -1]
            return last

        ends = end_tokens_of(self.decoder)
        return greedy(state.logits, decode_step, ends, self.checkpoint.max_new_tokens)

    def _prefill(self, prompts: Sequence[Prompt]) -> Prefilled:
        return prefill(self.forward, prompts, self.image_token, self.architecture.causal)

    def score_choices(
        self,
        encoded: Sequence[EncodedImage],
        image_index: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Sum the log-probabilities of each choice's tokens after the prompt.

        The end token is counted if the model was trained to write it; see `counts_end`.
        """
        scores = []
        for image, question, options in zip(image_index, questions, choices, strict=True):
            with torch.inference_mode():
                state = self._prefill([self.make_prompt(encoded[image], question)])
                scores.append(
                    self._log_likelihoods(state, [self.choice_tokens(c) for c in options])
                )
        return scores

    def choice_tokens(self, choice: str) -> list[int]:
        """Return the tokens whose log-probabilities a choice's score sums.

        Args:
            choice: a possible answer.
        """
        tokens = self.prompts.answer_tokens(choice)
        return tokens if self.counts_end else tokens[:-1]

    def _log_likelihoods(self, state: Prefilled, choices: Sequence[Sequence[int]]) -> list[float]:
        """Sum the log-probabilities of each choice's tokens.

        Args:
            state: one prompt.
            choices: the tokens of C choices, of up to A tokens.
        """
        count = len(choices)
        tokens = pad_sequence([torch.tensor(ids) for ids in choices], True).to(
            self.device
        )  # [C, A]
        logits = state.logits.expand(count, -1)[:, None]  # [C, 1, V]
        length = tokens.shape[1] - 1
        if length:
            state.cache.batch_repeat_interleave(count)
            mask = torch.cat([state.mask, state.mask.new_ones(1, length)], dim=1)
            positions = state.positions + torch.arange(length)
            segment = Segment(
                tokens[:, :-1],
                (),
                positions.repeat_interleave(count, dim=-2),
                mask.expand(count, -1),
                state.cache,
                logits_to_keep=length,
            )
            logits = torch.cat([logits, self.forward(segment).logits[:, -length:]], dim=1)
        log_probs = logits.float().log_softmax(-1).gather(2, tokens[..., None])[..., 0].double()
        return [float(row[: len(ids)].sum()) for row, ids in zip(log_probs, choices, strict=True)]

    # The language model

    def forward(self, segment: Segment) -> Any:
        """Run the language model, with the images' features at their placeholders.

        Args:
            segment: what it is given.

        Returns:
            The library's output, with `logits` and `past_key_values`.
        """
        ids = segment.ids.to(self.device)
        arguments: dict[str, Any] = {}
        if segment.images:
            arguments["mm_encoder_outputs"] = {"image": self._encoder_output(segment.images)}
        if segment.token_types is not None:
            arguments["token_type_ids"] = segment.token_types.to(self.device)
        elif self.architecture.token_types and segment.cache is None:
            arguments["token_type_ids"] = self.token_types(ids, torch.ones_like(ids))
        return self.model(
            input_ids=ids,
            attention_mask=segment.mask.to(self.device),
            position_ids=segment.positions.to(self.device),
            past_key_values=segment.cache,
            use_cache=segment.use_cache,
            logits_to_keep=segment.logits_to_keep,
            **arguments,
        )

    def token_types(self, ids: Tensor, is_prompt: Tensor) -> Tensor | None:
        """Return the token types that the architecture distinguishes, if any.

        Args:
            ids: [B, S] token ids.
            is_prompt: [B, S] nonzero where a token stands before the answer.

        Returns:
            [B, S], or None.
        """
        kind = self.architecture.token_types
        if kind == "image":
            return (ids == self.image_token).long()
        return 1 - is_prompt.long() if kind == "prompt" else None

    def _encoder_output(self, images: Sequence[EncodedImage]) -> BaseModelOutputWithPooling:
        """Return images' features in the form that the library's forward pass takes."""
        width: int = self.model.config.get_text_config().hidden_size
        features = [image.features.to(self.device) for image in images]
        return encoder_output(features, width, self.architecture)

    def record(self) -> dict[str, Any]:
        """Return the checkpoint, the prompt and the way of decoding."""
        return {
            **checkpoint_record(self.checkpoint, self.model),
            "prompt": self.checkpoint.prompt,
            "decoding": decoding_of(self.checkpoint),
        }
