"""The committed notebooks, executed as a service would."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import psutil
from helpers.scratch import environment
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.support import ROOT


def execute(service: str, folder: Path, **parameters: Any) -> Any:
    """Run a service's notebook with other parameters, which go behind its first code cell.

    Raises:
        CellExecutionError: a cell failed; the message has what it printed.
    """
    notebook = nbformat.read(ROOT / "notebooks" / f"{service}.ipynb", as_version=4)
    first = next(i for i, c in enumerate(notebook.cells) if "parameters" in tags(c))
    text = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    notebook.cells.insert(first + 1, nbformat.v4.new_code_cell(text))
    client = NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    # A service's kernel draws into the notebook; the tests' own setting is for programs.
    variables = {name: value for name, value in environment().items() if name != "MPLBACKEND"}
    try:
        client.execute(env=variables)
    except CellExecutionError as error:
        raise AssertionError(f"{error}\n{printed(notebook)[-8000:]}") from None
    return notebook


def tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def outputs(notebook: Any) -> list[Any]:
    return [out for cell in notebook.cells for out in cell.get("outputs", ())]


def printed(notebook: Any) -> str:
    """All that the cells print."""
    return "".join(out["text"] for out in outputs(notebook) if out["output_type"] == "stream")


def shown(notebook: Any, kind: str) -> list[str]:
    """What the cells display of a kind: text/markdown, image/png."""
    data = (out.get("data", {}) for out in outputs(notebook))
    return [values[kind] for values in data if kind in values]


def start(service: str, folder: Path, **parameters: Any) -> subprocess.Popen[bytes]:
    """`execute` in a process of its own, which can be killed with all that it starts."""
    words = ["-m", "tests.support.notebooks", service, str(folder), json.dumps(parameters)]
    paths = [str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment(PYTHONPATH=os.pathsep.join(filter(None, paths))),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """`kill -9` of a notebook, its kernel and all their commands, as when a machine ends."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(family, 30)
    process.wait()


def saved_checkpoints(folder: Path) -> list[str]:
    """Training's checkpoints in a saved session."""
    files = json.loads((folder / "session.json").read_text(encoding="utf-8"))["files"]
    return [name for name in files if "/finetune/" in name and name.endswith(".pt")]


if __name__ == "__main__":
    execute(sys.argv[1], Path(sys.argv[2]), **json.loads(sys.argv[3]))
