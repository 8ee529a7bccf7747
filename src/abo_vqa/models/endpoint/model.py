"""A model behind an API as a model of the profile."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from abo_vqa.data.image_decoding import SOURCE
from abo_vqa.models.answers import Answer
from abo_vqa.models.base import VQAModel
from abo_vqa.models.decoding import extract_answer
from abo_vqa.models.endpoint.paid_answers import PaidAnswers
from abo_vqa.remote.contract import Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.core.config import CheckpointConfig, ComputeConfig

_QUALITY = 95  # of the JPEG that is sent


@dataclass(frozen=True)
class SentImage:
    """An image as it is sent.

    Attributes:
        source: the hash of the file that it was made of, which doesn't depend on Pillow's version.
        jpeg: the bytes.
    """

    source: str
    jpeg: bytes


class Endpoint(VQAModel):
    """A model behind an API: `family: endpoint`. No weights, no likelihoods, nothing to train."""

    supported_settings = ()

    def __init__(self, checkpoint: CheckpointConfig) -> None:
        """Read the replies of earlier runs; nothing is sent yet.

        Args:
            checkpoint: the settings of a model in the profile.
        """
        assert checkpoint.endpoint is not None, "load_config fills it in"
        self.device = torch.device("cpu")
        self._prompt, self._side = checkpoint.prompt, checkpoint.endpoint.image_size
        self._record, self._answer_rule = checkpoint.answer_settings(), checkpoint.answer
        self._paid = PaidAnswers(
            checkpoint.endpoint,
            checkpoint.reply_settings(),
            expects_short=self._answer_rule == "whole",
        )

    @classmethod
    def load(
        cls, checkpoint: CheckpointConfig, _compute: ComputeConfig, **_options: Any
    ) -> Endpoint:
        """Return the model; see `load_model`.

        Args:
            checkpoint: the settings of a model in the profile.
        """
        return cls(checkpoint)

    def preprocess(self, images: Sequence[Image]) -> list[SentImage]:
        """Return the images as they are sent: JPEGs of at most `image_size` pixels per side."""
        return [SentImage(_source(image), self._jpeg(image)) for image in images]

    def _jpeg(self, image: Image) -> bytes:
        small = image.copy()
        small.thumbnail((self._side, self._side))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=_QUALITY)
        return buffer.getvalue()

    def encode(self, pixel_values: Any) -> Any:
        """Return the images: the service encodes them."""
        return pixel_values

    def predict_answers(
        self, encoded: Any, image_index: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        """Ask the service, several questions at a time; see `PaidAnswers.ask`."""
        images: list[SentImage] = [encoded[image] for image in image_index]
        requests = [
            Request("", self._prompt.replace("{question}", question), image.jpeg)
            for image, question in zip(images, questions, strict=True)
        ]
        replies = self._paid.ask(requests, [image.source for image in images])
        self.progress_note = self._paid.cost
        return [
            replace(reply, text=extract_answer(reply.text, self._answer_rule)) for reply in replies
        ]

    def record(self) -> dict[str, Any]:
        """Return what the answers depend on."""
        return self._record


def _source(image: Image) -> str:
    """Return the hash of an image's file, or of its pixels where it was never in one."""
    known = image.info.get(SOURCE)
    return str(known) if known else hashlib.sha1(image.tobytes()).hexdigest()
