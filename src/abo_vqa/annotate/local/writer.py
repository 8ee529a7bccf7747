"""A model of the profile that writes pairs, in whichever process it is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from PIL import Image

from abo_vqa.core.errors import UserError
from abo_vqa.data.archive import open_archive
from abo_vqa.models.answering.writing import BatchWriter, WritingTask
from abo_vqa.models.registry import checkpoint_key, checkpoint_of, load_model
from abo_vqa.models.sources import ImageBatch, ImageFiles, prefetch
from abo_vqa.models.writing import TextWriter, WritingOptions, WrittenText

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


class PairWriter:
    """Writes batches of texts, the images of one loaded while another is written.

    Args:
        config: the run's configuration.

    Raises:
        UserError: the model can't be loaded, or doesn't follow instructions.
    """

    def __init__(self, config: Config) -> None:
        settings = config.generate
        options = WritingOptions(settings.max_output_tokens, settings.temperature)
        model = _load_writer(config)
        self._archive = open_archive(config.data.raw)

        def open_image(path: str) -> Image.Image:
            image = self._archive.image(path)
            image.thumbnail((settings.image_size, settings.image_size), Image.Resampling.LANCZOS)
            return image

        files = ImageFiles(open_image, fetch=self._archive.prefetch)
        key = checkpoint_key(settings.model)
        self._writer = BatchWriter(model, files, options, key)

    def __call__(
        self, batches: Sequence[Sequence[WritingTask]]
    ) -> Iterator[list[WrittenText | str]]:
        """Write texts.

        Args:
            batches: what is to be written, about different images each.

        Yields:
            A batch's texts; instead of one, why its image can't be used.
        """
        for batch, loaded in prefetch(batches, self._load):
            yield self._writer.write(batch, loaded)

    def _load(self, batch: Sequence[WritingTask]) -> ImageBatch:
        return self._writer.load([task.image_path for task in batch])

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()


def _load_writer(config: Config) -> TextWriter:
    """Load the model.

    Raises:
        UserError: it can't be loaded, or it has no chat template.
    """
    name = config.generate.model
    model = load_model(name, config)
    if not isinstance(model, TextWriter):
        raise UserError(
            f"generate.model: {name} ({checkpoint_of(name, config).path}) has no chat template, so "
            "it wasn't trained to follow instructions. Choose a model of the profile that was."
        )
    return model
