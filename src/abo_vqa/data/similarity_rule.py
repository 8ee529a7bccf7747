"""Which images count as near-duplicates: by perceptual hashes, and by models' vectors if wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from abo_vqa.core.engine.work import RunMap
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import vectors_of
from abo_vqa.data.hashes import hash_graph
from abo_vqa.data.image_vectors import ImageVectors, read_image_vectors, vector_graph
from abo_vqa.data.key_columns import KEY_COLUMNS, compact_table, unify_paths
from abo_vqa.data.similarity import SimilarityGraph, unite_graphs
from abo_vqa.data.vector_search import EXHAUSTIVE

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

PHASH_DISTANCE = 4
"""The default maximum number of different bits, of 64, between near-duplicates."""


@dataclass(frozen=True)
class SimilarityRule:
    """How much two images may differ and still be near-duplicates, by any of several measures.

    Attributes:
        distance: how many of a perceptual hash's 64 bits may differ.
        vectors: vectors, each with the smallest cosine of images that are alike.
        run: has the parts of a search done, as `map` does, or by workers; see `Engine.map`.
    """

    distance: int
    vectors: tuple[tuple[ImageVectors, float], ...] = ()
    run: RunMap = field(default=map, compare=False, repr=False)

    def graph(self, table: pd.DataFrame) -> SimilarityGraph:
        """Compare a table's images.

        Args:
            table: with the columns image_path and phash.

        Raises:
            UserError: a perceptual hash isn't 16 hex digits, a vector has no direction, or nearly
                all images are alike.
        """
        graphs = [hash_graph(table["phash"], self.distance, self.run)]
        graphs += [vector_graph(table["image_path"], *each, self.run) for each in self.vectors]
        return unite_graphs(graphs)

    def notes(self, paths: pd.Series) -> list[str]:
        """Say where a search may miss pairs.

        Args:
            paths: the images, of any number of rows.

        Returns:
            A line for the terminal for each of the vectors, if there are too many of them to
            compare all pairs.
        """
        if not self.vectors or (count := paths.nunique()) <= EXHAUSTIVE:
            return []
        return [
            f"{known.source}: {count:,} images are more than {EXHAUSTIVE:,}, so only those near a "
            "common pivot are compared; about one pair of 1,000 is missed (docs/data.md)"
            for known, _ in self.vectors
        ]

    def options(self) -> str:
        """Return the options by which `split` and `audit` follow this rule; "" for the default."""
        parts = [] if self.distance == PHASH_DISTANCE else [f"--distance {self.distance}"]
        parts += [f"--vectors {known.source} {cosine:g}" for known, cosine in self.vectors]
        return " ".join(parts)

    def loosened(self) -> SimilarityRule:
        """Return the rule for images that differ up to twice as much, in bits and in angles."""
        doubled = tuple((known, 2 * cosine**2 - 1) for known, cosine in self.vectors)
        return SimilarityRule(2 * self.distance, doubled, self.run)


@dataclass(frozen=True)
class ComparedTable:
    """A table whose images are compared once, for its split and for the split's audit.

    Attributes:
        table: compact, with unified paths (see `key_columns`).
        rule: which images are near-duplicates.
    """

    table: pd.DataFrame
    rule: SimilarityRule

    @classmethod
    def of(
        cls, tables: Sequence[pd.DataFrame], rule: SimilarityRule, others: Sequence[str] = ()
    ) -> ComparedTable:
        """Put tables one below the other, without the columns that nobody compares.

        Args:
            tables: with image_path.
            rule: which images are near-duplicates.
            others: columns to keep besides `key_columns.KEY_COLUMNS`.
        """
        common = [name for name in tables[0] if all(name in table for table in tables)]
        kept = [str(name) for name in common if name in KEY_COLUMNS or name in others]
        table = compact_table(tables, kept)
        table["image_path"] = unify_paths(table["image_path"])
        return cls(table, rule)

    @cached_property
    def graph(self) -> SimilarityGraph | None:
        """Which images are alike; None without the column phash.

        Raises:
            UserError: see `SimilarityRule.graph`.
        """
        return self.rule.graph(self.table) if "phash" in self.table else None


def configured_rule(config: Config) -> SimilarityRule:
    """Return the rule of the settings `split.phash_distance` and `split.cosine`.

    Args:
        config: the settings.

    Raises:
        UserError: vectors are missing or damaged.
    """
    cosines = config.split.cosine
    vectors = tuple((read_image_vectors(vectors_of(name)), cosines[name]) for name in cosines)
    return SimilarityRule(config.split.phash_distance, vectors)


def vector_digests(names: Iterable[str]) -> dict[str, str]:
    """Return the digests of models' vectors, for fingerprints of what depends on groups.

    Args:
        names: of the models.
    """
    return {name: str(read_json(vectors_of(name) / "meta.json").get("digest")) for name in names}
