"""The prediction browser: an offline page with every prediction of every model.

A page of up to `EMBEDDED_PREDICTIONS` is one file. A larger one has its data beside it, in scripts
that it loads one after the other: a page opened from a disk may load scripts, but not data, and
one script of all data would keep it from answering for seconds.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abo_vqa.core.files import atomic_folder
from abo_vqa.core.page_policy import page_policy
from abo_vqa.reporting.browser_data import (
    CONFIDENCE_UNITS,
    METRIC_UNITS,
    NO_VALUE,
    BrowserData,
    in_units,
)
from abo_vqa.reporting.pages import read_assets, template_environment, write_page

if TYPE_CHECKING:
    from abo_vqa.reporting.browser_data import Integers, ModelColumns

EMBEDDED_PREDICTIONS = 200_000
"""Rows × models that a single file holds at most."""


def browser_payload(data: BrowserData, thumbnails: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the data of a page that is one file.

    Args:
        data: what it shows.
        thumbnails: image path → address of its thumbnail (a data URI or a relative path).
    """
    return {
        "models": data.models,
        "metrics": data.metrics,
        "strings": data.strings,
        "images": {"path": data.images, "thumb": [thumbnails.get(p) or "" for p in data.images]},
        "rows": {name: column.tolist() for name, column in data.rows.items()},
        "predictions": [_payload_of(columns) for columns in data.predictions],
        "vectors": [
            [None if value == NO_VALUE else value / METRIC_UNITS for value in vector]
            for vector in data.vectors.tolist()
        ],
    }


def _payload_of(columns: ModelColumns) -> dict[str, Any]:
    """Return one model's columns."""
    confidence = columns.confidence
    return {
        "text": columns.text.tolist(),
        "confidence": None
        if confidence is None
        else [None if c != c else round(c, 3) for c in confidence.tolist()],  # NaN isn't itself
        "vector": columns.vector.tolist(),
        "error": {str(row): text for row, text in columns.error.items()},
    }


def write_browser_parts(
    data: BrowserData, thumbnails: Mapping[str, str | None], folder: Path
) -> dict[str, Any]:
    """Write the data of a page that is too large for one file.

    Args:
        data: what it shows.
        thumbnails: image path → relative path of its thumbnail.
        folder: where the scripts go; replaced.

    Returns:
        What the page itself holds: the scripts, by what is in them.
    """
    with atomic_folder(folder) as temporary:
        for name, part in _parts(data, thumbnails):
            text = _script_safe(part)
            write_page(temporary / f"{name}.js", f"part({json.dumps(name)},{json.dumps(text)});\n")
    return {
        "folder": folder.name,
        "models": data.models,
        "metrics": data.metrics,
        "count": len(data.rows["id"]),
    }


def _parts(
    data: BrowserData, thumbnails: Mapping[str, str | None]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each script's name and content: the rows, a model each, a metric each."""
    yield (
        "rows",
        {
            "strings": data.strings,
            "rank": _packed(_ranks(data.strings)),
            "images": {
                "path": data.images,
                "thumb": [thumbnails.get(p) or "" for p in data.images],
            },
            "rows": {name: _packed(column) for name, column in data.rows.items()},
        },
    )
    for number, columns in enumerate(data.predictions):
        confidence = columns.confidence
        yield (
            f"model-{number}",
            {
                "text": _packed(columns.text),
                "vector": _packed(columns.vector),
                "correct": _packed(columns.correct.astype(np.int64)),
                "confidence": None
                if confidence is None
                else _packed(in_units(confidence, CONFIDENCE_UNITS)),
                "error": {str(row): text for row, text in columns.error.items()},
            },
        )
    for number, column in enumerate(data.vectors.T):
        yield f"metric-{number}", {"values": _packed(column)}


def _ranks(strings: list[str]) -> Integers:
    """Return each text's place in the order that the page sorts by; equal but for case, equal."""
    folded = [text.lower() for text in strings]
    # Scripts compare UTF-16's units, in which an emoji comes before some letters.
    order = sorted(set(folded), key=lambda text: text.encode("utf-16-be", "surrogatepass"))
    places = {text: place for place, text in enumerate(order)}
    return np.array([places[text] for text in folded], dtype=np.int64)


def _packed(column: Integers) -> dict[str, Any]:
    """Return whole numbers in as few bytes each as the largest needs, in base64.

    A stored 0 is `NO_VALUE`; else 1 stands for the column's smallest number, which is given.
    """
    missing = column == NO_VALUE
    known = column[~missing]
    low = int(known.min()) if len(known) else 0
    stored = np.where(missing, 0, column - low + 1).astype("<u4")
    width = max(1, -(-int(stored.max(initial=0)).bit_length() // 8))
    content = stored.view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    return {"low": low, "bytes": width, "data": base64.b64encode(content).decode("ascii")}


def _script_safe(value: Mapping[str, Any]) -> str:
    """Return JSON in which nothing can end a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def render_browser(title: str, payload: Mapping[str, Any]) -> str:
    """Render browser.html; `<` is escaped, so that data can't end the script element.

    Args:
        title: of the page.
        payload: what `browser_payload` or `write_browser_parts` returned.
    """
    template = template_environment().get_template("browser.html.j2")
    css = read_assets("base.css", "browser.css")
    script = read_assets("browser_store.js", "browser.js")
    return template.render(
        title=title,
        css=css,
        payload=_script_safe(payload),
        script=script,
        policy=page_policy(css, script, beside="img script" if "folder" in payload else "img"),
    )
