"""The pages of the API reference: one for each package, with all modules in it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/abo_vqa"


def packages() -> dict[str, list[str]]:
    """Return the names of the modules of each package, `cli` with the package itself."""
    found: dict[str, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        if file.name != "__init__.py" and file.name != "__main__.py":
            found.setdefault(name.rpartition(".")[0], []).append(name)
    return found


def module_page(package: str, modules: list[str]) -> str:
    """Return the page of a package: what it is for, and its modules.

    Args:
        package: its dotted name.
        modules: their dotted names.
    """
    folder = PACKAGE.parent / package.replace(".", "/")
    purpose = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    parts = [f"# {package}\n", f"{purpose}\n"]
    for module in modules:
        parts.append(f"## {module.removeprefix(package + '.')}\n\n::: {module}\n")
    return "\n".join(parts)


def api_nav() -> list[dict[str, Any]]:
    """Return the entries of the navigation, a package's subpackages behind it."""
    return [
        {name.removeprefix("abo_vqa.").replace("abo_vqa", "cli"): f"api/{name}.md"}
        for name in packages()
    ]
