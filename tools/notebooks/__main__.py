"""`make notebooks`: write notebooks/kaggle.ipynb and colab.ipynb from notebooks/source.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext
import nbformat

FOLDER = Path(__file__).parents[2] / "notebooks"
# What the services read of a notebook when it is opened.
SERVICES: dict[str, dict[str, Any]] = {
    "kaggle": {
        "kaggle": {
            "accelerator": "nvidiaTeslaT4",
            "isGpuEnabled": True,
            "isInternetEnabled": True,
            "language": "python",
            "sourceType": "notebook",
        }
    },
    "colab": {"accelerator": "GPU", "colab": {"gpuType": "T4", "provenance": []}},
}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def notebook(service: str) -> Any:
    """Return a service's notebook: the source's cells with its tag, or without any service's.

    Args:
        service: "kaggle" or "colab".
    """
    source = jupytext.read(FOLDER / "source.py", fmt="py:percent")
    cells: list[Any] = []
    for cell in source.cells:
        tags = set(cell.metadata.get("tags", ()))
        if "source" in tags or (tags & {*SERVICES} and service not in tags):
            continue
        make = nbformat.v4.new_markdown_cell
        if cell.cell_type == "code":
            make = nbformat.v4.new_code_cell
        kept = sorted(tags - {*SERVICES})
        # A cell's number is its id: nothing changes where nothing has changed.
        cells.append(
            make(cell.source, id=f"cell-{len(cells):02}", metadata={"tags": kept} if kept else {})
        )
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}, **SERVICES[service]}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def text(service: str) -> str:
    """Return the contents of a service's file.

    Args:
        service: see `notebook`.
    """
    made = notebook(service)
    nbformat.validate(made)
    return f"{nbformat.writes(made)}\n"


if __name__ == "__main__":
    for name in SERVICES:
        file = FOLDER / f"{name}.ipynb"
        file.write_text(text(name), encoding="utf-8")
        print(file)
