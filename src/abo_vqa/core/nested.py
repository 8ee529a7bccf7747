"""Nested mappings, flattened for tables, metrics and settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(value: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Walk through nested mappings.

    Args:
        value: the mapping; anything in it that isn't a mapping is a leaf.

    Yields:
        The keys that lead to a leaf, and the leaf, in order.
    """
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from (((str(key), *path), leaf) for path, leaf in leaves(item))
        else:
            yield (str(key),), item


def flatten(value: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Flatten nested mappings: {"lora": {"r": 16}} becomes {"lora.r": 16}.

    Args:
        value: the mapping.
        separator: what stands between the keys of two levels.
    """
    return {separator.join(path): leaf for path, leaf in leaves(value)}


def numeric_metrics(counts: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers among nested counts by slashed names, for MLflow.

    Args:
        counts: the counts; other leaves than numbers are left out.
    """
    return {
        "/".join(map(_metric_name, path)): float(value)
        for path, value in leaves(counts)
        if isinstance(value, int | float)
    }


def _metric_name(name: str) -> str:
    """Return a name that opens no group of its own in MLflow: yes_no for yes/no."""
    return name.replace("/", "_").replace("(", "").replace(")", "").replace(" ", "_")
