"""The tables of docs/benchmarks.md from a result of `benchmarks/gpu.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Cells = Sequence[str]


def markdown(result: dict[str, Any]) -> str:
    """What was measured on a card, with everything that its figures depend on."""
    parts = result["parts"]
    sections = [
        heading(result),
        table(
            ("model", "dtype", "rows", "equal to the library's answers",
             "library's equal to its float32", "ours equal to it"),
            (row for name, part in parts.items() for row in exactness(name, part)),
        ),
        table(
            ("training, dtype", "loss, library", "loss, ours", "largest gradient difference",
             "library from its float32", "ours from it"),
            gradients(parts.get("training", {})),
        ),
        table(
            ("model", "way", "dtype", "rows", "rows a second", "ratio", "to prepared", "wanted",
             "GB at most", "GFLOP a row", "share of the peak"),
            (row for name, part in parts.items() for row in ways(name, part)),
        ),
        table(
            ("model", "way", "largest batch", "ended by"),
            (row for name, part in parts.items() for row in batches(name, part)),
        ),
        table(
            ("model", "way", "hours for the study's rows"),
            (row for name, part in parts.items() for row in hours(name, part)),
        ),
        *unmeasured(parts),
    ]  # fmt: skip
    return "\n\n".join(section for section in sections if section)


def heading(result: dict[str, Any]) -> str:
    card = result["card"]
    packages = card["packages"]
    facts = [f"**{card['name']}**"]
    if "capability" in card:
        facts += [f"capability {card['capability']}", f"{card['memory_bytes'] / 1e9:.0f} GB",
                  f"driver {card['driver'] or 'unknown'}"]  # fmt: skip
    facts += [f"{name} {packages[name]}" for name in ("torch", "transformers", "peft")]
    facts.append(f"TF32 {onoff(card['tf32_matmul'])} for matrix products and "
                 f"{onoff(card['tf32_convolutions'])} for convolutions")  # fmt: skip
    facts += [f"{rate:.3g} TFLOP/s in {dtype}" for dtype, rate in result["matrix_tflops"].items()]
    kind = "" if result["size"] == "real" else " Small models: these figures say nothing of speed."
    return ", ".join(facts) + f"; weights in {result['dtype']}.{kind}"


def onoff(value: bool) -> str:
    return "on" if value else "off"


def table(head: Cells, rows: Iterable[Cells]) -> str:
    """A table in Markdown; nothing without rows."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    if not lines:
        return ""
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *lines])


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def difference(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1e}"


def exactness(name: str, part: dict[str, Any]) -> Iterable[Cells]:
    for found in part.get("exactness", ()):
        if "reason" in found:
            yield name, found["dtype"], "", found["reason"], "", ""
        else:
            yield (
                name, found["dtype"], str(found["rows"]), share(found["equal"]),
                share(found.get("library_as_float32")), share(found.get("ours_as_float32")),
            )  # fmt: skip


def gradients(part: dict[str, Any]) -> Iterable[Cells]:
    for found in part.get("gradients", ()):
        yield (
            found["dtype"], f"{found['library_loss']:.6f}", f"{found['our_loss']:.6f}",
            difference(found["gradient_difference"]), difference(found["library_from_float32"]),
            difference(found["ours_from_float32"]),
        )  # fmt: skip


def ways(name: str, part: dict[str, Any]) -> Iterable[Cells]:
    for way in part.get("ways", ()):
        if "reason" in way:
            yield name, way["way"], way["dtype"], str(way["rows"]), way["reason"], *[""] * 6
            continue
        ratio = [
            f"{way[key]:.1f}" if way.get(key) else "" for key in ("ratio", "ratio_to_prepared")
        ]
        yield (
            name, way["way"], way["dtype"], str(way["rows"]), f"{way['rows_per_second']:,.1f}",
            *ratio, f"{way['wanted']}" if way.get("wanted") else "",
            f"{way['peak_bytes'] / 1e9:.2f}", f"{way['gflop_per_row']:.4g}",
            share(way["share_of_peak"]),
        )  # fmt: skip


def batches(name: str, part: dict[str, Any]) -> Iterable[Cells]:
    words = {"memory": "memory", "time": "the time for this part: more may fit",
             "limit": "the search's limit: more may fit"}  # fmt: skip
    for found in part.get("largest", ()):
        if "rows" in found:
            yield name, found["way"], f"{found['rows']:,}", words[found["ended_by"]]
        else:
            yield name, found["way"], "any", f"a pass takes {found['tokens']:,} tokens at most"


def hours(name: str, part: dict[str, Any]) -> Iterable[Cells]:
    for way, value in part.get("hours", {}).items():
        yield name, way, f"{value:.2f}"


def unmeasured(parts: dict[str, Any]) -> list[str]:
    """A line for each part that isn't there as a whole."""
    return [
        f"{name}: {part['status']}" + (f": {part['reason']}" if part.get("reason") else "")
        for name, part in parts.items()
        if part["status"] != "measured"
    ]
