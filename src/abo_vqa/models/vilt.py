"""ViLT for visual question answering (Kim et al., 2021, arXiv:2102.03334)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.models.base import Answer, VQAModel
from abo_vqa.models.loading import describe, load_pretrained, load_processor
from abo_vqa.models.pixels import pixel_dtype, pixel_values

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from abo_vqa.config import CheckpointConfig, ComputeConfig

_LONGEST = 1333 / 800  # of the shortest edge, as the image processor has it


class Vilt(VQAModel):
    """One transformer over the words and patches, then a classifier over a fixed vocabulary.

    Patches see the question from the first layer on, so only their embedding is shared between
    a picture's questions. The library puts the patches in a random order, which changes nothing
    but the rounding; here they keep their order, so that the same picture gives the same bits.
    """

    def __init__(
        self, model: Any, processor: Any, checkpoint: CheckpointConfig, device: Any
    ) -> None:
        self.model = model
        self.processor = processor
        self.checkpoint = checkpoint
        self.device = device

    @classmethod
    def load(cls, checkpoint: CheckpointConfig, compute: ComputeConfig) -> Vilt:
        from transformers import ViltForQuestionAnswering, ViltProcessor

        model, device = load_pretrained(ViltForQuestionAnswering, checkpoint, compute)
        return cls(model, load_processor(ViltProcessor, checkpoint), checkpoint, device)

    def prepare(self, pictures: Sequence[Image]) -> list[torch.Tensor]:
        """Pixels of each picture: [1, 3, height, width] each, for they keep their proportions."""
        dtype = pixel_dtype(self.model)
        return [pixel_values(self.processor, [picture], dtype) for picture in pictures]

    def see(self, prepared: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Embedded patches of each picture, in reading order: [1 + patches, width] each."""
        import torch

        embed = self.model.vilt.embeddings.visual_embed
        longest = self.model.config.max_image_length
        embedded = []
        for pixels in prepared:
            everywhere = torch.ones_like(pixels[:, 0], dtype=torch.long)  # alone: no padding
            # The order of patches is drawn from torch's generator: leave no trace there.
            with torch.random.fork_rng(devices=[]), torch.inference_mode():
                torch.manual_seed(0)
                patches, _, (place, (_, columns)) = embed(
                    pixels.to(self.device),
                    everywhere.to(self.device),
                    max_image_length=longest,
                )  # [1, 1 + patches, width], places [1, patches, 2] as (row, column)
                order = (place[0, :, 0] * columns + place[0, :, 1]).argsort()
                embedded.append(torch.cat([patches[0, :1], patches[0, 1:][order]]))
        return embedded

    def picture_fault(self, picture: Image) -> str:
        """The processor scales the sides to at most 1333/800 of its shortest edge, then down to
        whole patches; of a narrow enough picture not one is left."""
        processor = self.processor.image_processor
        narrow, wide = sorted(picture.size)
        longest = int(_LONGEST * processor.size["shortest_edge"])
        if int(longest * narrow / wide + 0.5) >= processor.size_divisor:
            return ""
        most = longest / processor.size_divisor
        return (
            f"the picture is too narrow: {picture.width} x {picture.height}, and one side may be "
            f"{most:.0f} times the other"
        )

    def text_lengths(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> tuple[list[int], int]:
        lengths = [len(ids) for ids in self.processor.tokenizer(list(questions))["input_ids"]]
        return lengths, int(self.model.config.max_position_embeddings)

    def answer_encoded(
        self, encoded: Any, which: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        best, label = self.logits(encoded, which, questions).max(-1)  # [B], [B]
        # The classifier is trained with a sigmoid a label: several answers may be right.
        probability = best.sigmoid()
        labels = self.model.config.id2label
        return [
            Answer(labels[i], p) for i, p in zip(label.tolist(), probability.tolist(), strict=True)
        ]

    def logits(self, encoded: Any, which: Sequence[int], questions: Sequence[str]) -> torch.Tensor:
        """Scores of the vocabulary's answers: [B, vocabulary], float32."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        words = self.processor.tokenizer(
            list(questions), padding=True, truncation=True, return_tensors="pt"
        ).to(self.device)
        chosen = [encoded[i] for i in which]
        patches = pad_sequence(chosen, batch_first=True)  # [B, most patches, width]
        mask = pad_sequence(
            [torch.ones(len(c), dtype=torch.long) for c in chosen], batch_first=True
        ).to(self.device)
        with torch.inference_mode():
            read = self.model.vilt(**words, image_embeds=patches, pixel_mask=mask).pooler_output
            return scores_of(self.model.classifier, read)

    def rank_encoded(
        self,
        encoded: Any,
        which: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Log of the sigmoid of a choice's label; minus infinity outside the vocabulary."""
        import torch

        scores = torch.nn.functional.logsigmoid(self.logits(encoded, which, questions))
        label = {text: int(i) for i, text in self.model.config.id2label.items()}
        return [
            [float(row[label[c]]) if c in label else float("-inf") for c in options]
            for row, options in zip(scores, choices, strict=True)
        ]

    def record(self) -> dict[str, Any]:
        return {
            **describe(self.checkpoint, self.model),
            "prompt": "{question}",
            "decoding": f"most probable of {self.model.config.num_labels} answers",
        }


def scores_of(classifier: Any, states: torch.Tensor) -> torch.Tensor:
    """A classifier's scores [B, vocabulary] with the last product in float32.

    In half precision neighbouring scores of 3,000 answers become equal, and the first one wins.
    """
    from torch.nn import Linear
    from torch.nn.functional import linear

    hidden, last = classifier[:-1](states), classifier[-1]
    if type(last) is not Linear:  # quantised
        scores: torch.Tensor = last(hidden)
        return scores.float()
    return linear(hidden.float(), last.weight.float(), last.bias.float())
