"""Models that choose among given answers, by the likelihoods of the model that they wrap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.models.base import VQAModel

if TYPE_CHECKING:
    from PIL.Image import Image


class ChoosingModel(VQAModel):
    """A model whose images are the wrapped model's, and whose answers are chosen.

    Args:
        model: the model that ranks.

    Raises:
        UserError: its family has no likelihoods.
    """

    def __init__(self, model: VQAModel) -> None:
        if type(model).score_choices is VQAModel.score_choices:
            raise UserError(f"{type(model).__name__} can't rank choices by their likelihood.")
        self.model = model
        self.device, self.supported_settings = model.device, model.supported_settings

    def preprocess(self, images: Sequence[Image]) -> Any:
        """Preprocess images as the model does."""
        return self.model.preprocess(images)

    def encode(self, pixel_values: Any) -> Any:
        """Encode images as the model does."""
        return self.model.encode(pixel_values)

    def split_encoded(self, encoded: Any) -> Any:
        """Split an image's encoding as the model does."""
        return self.model.split_encoded(encoded)

    def join_encoded(self, matrices: Any, texts: Sequence[str]) -> Any:
        """Join encodings as the model does."""
        return self.model.join_encoded(matrices, texts)

    def image_error(self, image: Image) -> str:
        """Return why the model can't encode an image, or ""."""
        return self.model.image_error(image)

    def score_choices(
        self,
        encoded: Any,
        image_index: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Score choices as the model does."""
        return self.model.score_choices(encoded, image_index, questions, choices)
