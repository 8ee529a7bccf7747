"""Images' vectors, computed by a model, and which images are alike by them.

A folder holds `vectors.npy`, [N, V] numbers, and `paths.csv` with the column image_path in the
order of the vectors. The stage `vectors` writes such folders, with shards instead where there are
many images; any other program may. Two images are alike if the cosine of the angle between their
vectors is at least a threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.engine.work import RunMap
from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.tables import STUDY_COLUMNS, read_table
from abo_vqa.core.vector_files import SHARDS_FILE, VECTORS_FILE, has_vectors
from abo_vqa.data.image_paths import ImageIndex
from abo_vqa.data.remote_vectors import open_vectors
from abo_vqa.data.similarity import Pairs, SimilarityGraph, graph_of_pairs
from abo_vqa.data.vector_search import alike_vectors
from abo_vqa.data.vector_shards import VectorShards

if TYPE_CHECKING:
    from numpy.typing import NDArray

VECTOR_FILES = (VECTORS_FILE, "paths.csv")
"""The names of a folder's vectors, and of the table that says whose they are."""

_ROUNDING = 1e-6  # a copy's cosine may be as much below 1


@dataclass(frozen=True)
class ImageVectors:
    """Vectors of unit length, by image.

    Attributes:
        index: the images.
        positions: an image's path → its position among the vectors.
        vectors: [N, V] in float32, of any length above 0; read from disk when they are needed.
        source: where they are from, for messages.
    """

    index: ImageIndex
    positions: dict[str, int]
    vectors: NDArray[np.float32] | VectorShards
    source: str

    @classmethod
    def of(
        cls, paths: Sequence[str], vectors: NDArray[np.float32] | VectorShards, source: str = ""
    ) -> ImageVectors:
        """Index vectors by their images.

        Args:
            paths: N images, no two the same.
            vectors: [N, V].
            source: where they are from.
        """
        return cls(ImageIndex(paths), {p: i for i, p in enumerate(paths)}, vectors, source)

    def locate(self, paths: Sequence[str]) -> NDArray[np.int64]:
        """Look up images, however their paths are written.

        Args:
            paths: [n] images.

        Returns:
            [n] positions among the vectors, -1 where an image has none.
        """
        match = self.index.match(paths)
        places = [-1 if path is None else self.positions[path] for path in match.paths]
        return np.array(places, dtype=np.int64)

    def describe_coverage(self, paths: Sequence[str]) -> str:
        """Say how many images have a vector.

        Args:
            paths: images, of any number of rows.

        Returns:
            A line for the terminal, which begins with "warning" if some have none.

        Raises:
            UserError: none of them has one.
        """
        match = self.index.match(paths)
        match.require(self.source, self.index)
        note = match.describe(self.source)
        return note if match.complete else f"warning: {note}"

    def units(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read vectors, divided by their lengths.

        Args:
            positions: [k] among the vectors.

        Returns:
            [k, V] in float32.

        Raises:
            UserError: a vector is zero or holds something that is no number.
        """
        rows = np.array(self.vectors[positions], dtype=np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if len(bad := np.flatnonzero(~((lengths > 0) & np.isfinite(lengths)).ravel())):
            number = int(positions[bad[0]])
            path = next(p for p, place in self.positions.items() if place == number)
            raise UserError(
                f"{self.source}: the vector of {path} is zero or not finite, so it has no "
                "direction. Leave the image out, or compute the vectors again."
            )
        rows /= lengths
        return rows


def read_image_vectors(folder: Path) -> ImageVectors:
    """Map a folder of vectors.

    Args:
        folder: with the files `VECTOR_FILES`.

    Raises:
        UserError: it is missing, incomplete or damaged, or holds something else.
    """
    file, table = (folder / name for name in VECTOR_FILES)
    if not (has_vectors(folder) and table.exists()):
        raise UserError(
            f"no image vectors in {folder}: it needs the files {' and '.join(VECTOR_FILES)}. "
            "`abo-vqa vectors --model NAME` computes them for the pipeline's images."
        )
    paths = _paths_with_vectors(read_table(table, ("image_path",), STUDY_COLUMNS), folder)
    if not file.is_file():
        file = folder / SHARDS_FILE
    try:
        vectors = open_vectors(folder, "compute it again")
    except (ValueError, EOFError) as error:
        raise UserError(f"{file} is damaged ({first_line(error)}): compute it again.") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise UserError(
            f"{file} holds {vectors.dtype} of shape {list(vectors.shape)}; one vector of floats "
            "per image is needed, [images, width]. `abo-vqa vectors` writes such files, `embed` "
            "other ones."
        )
    if len(vectors) != len(paths):
        raise UserError(
            f"{folder} has {len(vectors):,} vectors and {len(paths):,} images: compute it again."
        )
    return ImageVectors.of(paths, vectors, str(folder))


def _paths_with_vectors(table: pd.DataFrame, folder: Path) -> list[str]:
    """The images that have a vector, in its order; the stage lists unreadable ones as well."""
    if "tokens" in table:
        if not table["tokens"].isin(("0", "1")).all():
            raise UserError(
                f"{folder} doesn't have one vector per image (column tokens): the stage `embed` "
                "writes several. Name a folder that `abo-vqa vectors` has written."
            )
        table = table[table["tokens"] == "1"]
    if (repeated := table["image_path"].duplicated()).any():
        name = table["image_path"][repeated].iloc[0]
        raise UserError(f"{folder}: {name} is there twice. Leave one of its vectors out.")
    return table["image_path"].tolist()


def vector_graph(
    paths: pd.Series, known: ImageVectors, cosine: float, run: RunMap = map
) -> SimilarityGraph:
    """Compare all images of a table by their vectors.

    Nodes are the images in the order of their names, so that the order of rows doesn't matter. It
    takes 4 V bytes of memory for each image, and the pairs that are alike.

    Args:
        paths: [n] images.
        known: their vectors.
        cosine: the smallest cosine of images that are alike.
        run: has the parts of the search done, as `map` does, or by workers; see `Engine.map`.

    Raises:
        UserError: nearly all images are alike, or a vector has no direction.
    """
    codes, names = pd.factorize(paths.to_numpy(dtype=object), sort=True)
    places = known.locate(list(names))
    present = places >= 0
    node_of = np.where(present, np.cumsum(present) - 1, -1)
    units = known.units(places[present])

    def search(limit: int) -> Iterator[Pairs]:
        return alike_vectors(units, cosine - _ROUNDING, run=run, limit=limit)

    return graph_of_pairs(node_of[codes], len(units), search, f"a cosine of {cosine:g}")
