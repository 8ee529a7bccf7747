"""The training rows as tokens and images, and how rows become a batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    import pandas as pd

    from abo_vqa.training.batch import Batch
    from abo_vqa.training.family import TrainableFamily


class ImageSource(Protocol):
    """Where a batch's images come from.

    Attributes:
        resident: whether they are in memory, so that nothing is gained by reading ahead on a CPU.
    """

    resident: bool

    def get(self, paths: Sequence[str]) -> Any:
        """Return images as `VQAModel.encode` returns them.

        If the vision part is trained, they are as `VQAModel.preprocess` returns them.

        Args:
            paths: P different images.
        """
        ...

    def token_counts(self, paths: Sequence[str]) -> list[int]:
        """Return how many tokens images have; zeros if that isn't known.

        Args:
            paths: P images.
        """
        ...


class VqaDataset:
    """A table's questions and answers as tokens, with their images.

    Args:
        table: columns image_path, question, answer, and row_id if there is one.
        family: turns rows into tokens and batches.
        images: where the images come from.

    Attributes:
        family: see above.
        images: see above.
        image_paths: each row's image.
        row_ids: each row's id.
        texts: each row's tokens.
        lengths: each row's length, which those of a batch should share.
    """

    def __init__(self, table: pd.DataFrame, family: TrainableFamily, images: ImageSource) -> None:
        self.image_paths: list[str] = table["image_path"].tolist()
        self.row_ids = table["row_id" if "row_id" in table else table.columns[0]].tolist()
        self.family, self.images = family, images
        self.texts = family.tokenize(table["question"].tolist(), table["answer"].tolist())
        images_tokens = images.token_counts(self.image_paths)
        self.lengths = [
            tokens + len(text.question)
            for tokens, text in zip(images_tokens, self.texts, strict=True)
        ]

    def answer_tokens(self, rows: Sequence[int]) -> int:
        """Return how many tokens the rows' loss counts, end tokens included."""
        return sum(self.texts[i].loss_tokens for i in rows)

    def collate(self, rows: Sequence[int]) -> Batch:
        """Return rows as tensors."""
        paths = list(dict.fromkeys(self.image_paths[i] for i in rows))
        index = {path: i for i, path in enumerate(paths)}
        image_index = torch.tensor([index[self.image_paths[i]] for i in rows])
        texts = [self.texts[i] for i in rows]
        return self.family.collate(list(rows), texts, self.images.get(paths), image_index)
