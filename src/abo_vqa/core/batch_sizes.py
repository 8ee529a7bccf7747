"""How many rows a model takes at a time: a profile's section `batch_sizes`.

It is a section of its own because DVC watches the others: batches for a smaller GPU are no reason
to ask every model again.
"""

from __future__ import annotations

from typing import Any


def distribute_batch_sizes(sources: dict[str, Any]) -> list[str]:
    """Move the section's numbers to the models and scorers they are for.

    Args:
        sources: a profile, changed in place.

    Returns:
        What is wrong with them.
    """
    sizes = sources.pop("batch_sizes", None) or {}
    if not isinstance(sizes, dict):
        return [f"batch_sizes: found {sizes!r}; expected model or scorer names with numbers"]
    known = {
        name: entry
        for section in ("models", "scorers")
        if isinstance(sources.get(section), dict)
        for name, entry in sources[section].items()
        if isinstance(entry, dict)
    }
    problems = [
        f"{name}.batch_size: batch sizes have a section of their own; set batch_sizes.{name}"
        for name, entry in known.items()
        if "batch_size" in entry
    ]
    for name, size in sizes.items():
        if name in known:
            known[name].setdefault("batch_size", size)
        else:
            names = ", ".join(known)
            problems.append(f"batch_sizes.{name}: neither a model nor a scorer; known: {names}")
    return problems
