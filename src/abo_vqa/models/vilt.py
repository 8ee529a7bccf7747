"""ViLT for visual question answering (Kim et al., 2021, arXiv:2102.03334)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import ViltForQuestionAnswering, ViltProcessor

from abo_vqa.models.answers import Answer
from abo_vqa.models.pixels import pixel_dtype, process_images
from abo_vqa.models.pretrained import PretrainedVQAModel
from abo_vqa.models.record import checkpoint_record

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_ASPECT = 1333 / 800  # longest by shortest edge of the resized image, as in the processor


class Vilt(PretrainedVQAModel):
    """A transformer over words and patches, and a classifier over a fixed vocabulary of answers.

    Patches attend to the question from the first layer on, so only their embedding is shared by an
    image's questions. The library shuffles the patches, which changes nothing but rounding; here
    they keep their order, so that the same image always gives the same bits.

    Shapes: B questions about N images of P patches each (P differs); width W.
    """

    model_class: ClassVar[Any] = ViltForQuestionAnswering
    processor_class: ClassVar[Any] = ViltProcessor

    def preprocess(self, images: Sequence[Image]) -> list[Tensor]:
        """Return pixel values [1, 3, height, width] of each image, which keeps its proportions."""
        dtype = pixel_dtype(self.model)
        return [process_images(self.processor, [image], dtype) for image in images]

    def encode(self, pixel_values: Sequence[Tensor]) -> list[Tensor]:
        """Embed each image's patches, row by row after the class token: [1 + P, W] each."""
        visual_embed = self.model.vilt.embeddings.visual_embed
        embedded = []
        for pixels in pixel_values:
            pixel_mask = torch.ones_like(pixels[:, 0], dtype=torch.long)  # alone: no padding
            # The library draws the order of the patches from torch's generator: restore its state.
            with torch.random.fork_rng(devices=[]), torch.inference_mode():
                torch.manual_seed(0)
                patches, _, (positions, (_, columns)) = visual_embed(
                    pixels.to(self.device),
                    pixel_mask.to(self.device),
                    max_image_length=self.model.config.max_image_length,
                )  # [1, 1 + P, W], positions [1, P, 2] as (row, column)
                order = (positions[0, :, 0] * columns + positions[0, :, 1]).argsort()
                embedded.append(torch.cat([patches[0, :1], patches[0, 1:][order]]))
        return embedded

    def image_error(self, image: Image) -> str:
        """Refuse an image that is too narrow.

        The processor scales the sides to at most 1333/800 of its shortest edge, then down to whole
        patches; a narrow enough image is left without any.
        """
        processor = self.processor.image_processor
        narrow, wide = sorted(image.size)
        longest = int(_MAX_ASPECT * processor.size["shortest_edge"])
        if int(longest * narrow / wide + 0.5) >= processor.size_divisor:
            return ""
        ratio = longest / processor.size_divisor
        return (
            f"the image is too narrow: {image.width} x {image.height}, and one side may be "
            f"{ratio:.0f} times the other"
        )

    def text_lengths(
        self,
        questions: Sequence[str],
        choices: Sequence[Sequence[str]] | None = None,
    ) -> tuple[list[int], int]:
        """Count the questions' tokens; choices are classes and have none."""
        lengths = [len(ids) for ids in self.processor.tokenizer(list(questions))["input_ids"]]
        return lengths, int(self.model.config.max_position_embeddings)

    def predict_answers(
        self, encoded: Sequence[Tensor], image_index: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        """Take the class with the highest score."""
        best, label = self._logits(encoded, image_index, questions).max(-1)  # [B], [B]
        # The classifier is trained with a sigmoid per label: several answers may be right.
        probability = best.sigmoid()
        labels = self.model.config.id2label
        return [
            Answer(labels[i], p) for i, p in zip(label.tolist(), probability.tolist(), strict=True)
        ]

    def score_choices(
        self,
        encoded: Sequence[Tensor],
        image_index: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Return the log-sigmoid of each choice's class; minus infinity outside the vocabulary."""
        scores = F.logsigmoid(self._logits(encoded, image_index, questions))
        label = {text: int(i) for i, text in self.model.config.id2label.items()}
        return [
            [float(row[label[c]]) if c in label else float("-inf") for c in options]
            for row, options in zip(scores, choices, strict=True)
        ]

    def _logits(
        self, encoded: Sequence[Tensor], image_index: Sequence[int], questions: Sequence[str]
    ) -> Tensor:
        """Return the scores of the answers, [B, vocabulary] in float32."""
        tokens = self.processor.tokenizer(
            list(questions), padding=True, truncation=True, return_tensors="pt"
        ).to(self.device)
        images = [encoded[i] for i in image_index]
        patches = pad_sequence(images, batch_first=True)  # [B, most patches, W]
        pixel_mask = pad_sequence(
            [torch.ones(len(image), dtype=torch.long) for image in images], batch_first=True
        ).to(self.device)
        with torch.inference_mode():
            pooled = self.model.vilt(
                **tokens, image_embeds=patches, pixel_mask=pixel_mask
            ).pooler_output  # [B, W]
            return classifier_scores(self.model.classifier, pooled)

    def record(self) -> dict[str, Any]:
        """Return the checkpoint and the size of the vocabulary."""
        return {
            **checkpoint_record(self.checkpoint, self.model),
            "prompt": "{question}",
            "decoding": f"most probable of {self.model.config.num_labels} answers",
        }


def classifier_scores(classifier: nn.Sequential, states: Tensor) -> Tensor:
    """Compute a classifier's scores with the last product in float32.

    In half precision neighbouring scores of 3,000 answers become equal, and the first one wins.

    Args:
        classifier: ViLT's classifier, whose last layer is linear.
        states: [B, W].

    Returns:
        Scores [B, vocabulary] in float32.
    """
    hidden, last = classifier[:-1](states), classifier[-1]
    if type(last) is not nn.Linear:  # quantised
        scores: Tensor = last(hidden)
        return scores.float()
    return F.linear(hidden.float(), last.weight.float(), last.bias.float())
