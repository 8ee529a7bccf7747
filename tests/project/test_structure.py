"""The shape of the code that docs/architecture.md and CONTRIBUTING.md promise."""

import ast
import builtins
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "src/abo_vqa"
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
# Stages and commands have the first three; the others are what everybody calls them.
INTERFACE = {"arguments", "command", "run", "main", "logger"}


def relative(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def public_names(tree: ast.Module) -> Iterator[str]:
    """Names that a module defines at its top and that don't start with an underscore."""
    for node in tree.body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [n for t in targets for n in getattr(t, "elts", [t])]
            yield from (n.id for n in names if isinstance(n, ast.Name))


def is_exception(name: str, bases: dict[str, set[str]]) -> bool:
    """Whether a class, one of the package's or Python's, is an exception."""
    if name in bases:
        return any(is_exception(base, bases) for base in bases[name])
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, BaseException)


def test_files_and_functions_are_short() -> None:
    folders = ("src", "tests", "tools", "benchmarks")
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    texts = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}
    assert [name for name, text in texts.items() if len(text.splitlines()) > 350] == []
    long = [
        f"{name}: {node.name}"
        for name, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, FUNCTION) and node.end_lineno - node.lineno + 1 > 60
    ]
    assert long == []


def assigned_names(tree: ast.Module) -> Iterator[str]:
    """Names of functions, classes, parameters and variables."""
    for node in ast.walk(tree):
        if isinstance(node, (*FUNCTION, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_names_are_the_fields_terms() -> None:
    """`messages`, `answers`, `image_index` rather than `said`, `found` and `which`."""
    vague = set("found look made said say see seen shown spell told which".split())
    allowed = {("commands/doctor/findings.py", "found"), ("data/image_paths.py", "found")}
    names = {(relative(file), n.strip("_")) for file in FILES for n in assigned_names(TREES[file])}
    assert {name for name in names if name[1] in vague} - allowed == set()


def test_a_stage_is_thin() -> None:
    stages = (PACKAGE / "stages").glob("*.py")
    assert [file.name for file in stages if len(file.read_text().splitlines()) >= 120] == []


def test_the_package_holds_layers() -> None:
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    files = {name for name in entries if name.endswith(".py")}
    assert files == {"__init__.py", "__main__.py", "cli.py"}
    assert len(entries) <= 14


def test_a_public_name_means_one_thing() -> None:
    places = defaultdict(list)
    for file, tree in TREES.items():
        for name in set(public_names(tree)) - INTERFACE:
            if not name.startswith("_"):
                places[name].append(relative(file))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_imports_are_at_the_top() -> None:
    """At most 3 per 1,000 lines are within functions, where a light caller mustn't pay for them."""
    within = {
        node
        for tree in TREES.values()
        for function in ast.walk(tree)
        if isinstance(function, FUNCTION)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    lines = sum(len(file.read_text().splitlines()) for file in FILES)
    assert len(within) <= 3 * lines / 1000


def test_errors_and_settings_are_called_so() -> None:
    classes = [n for tree in TREES.values() for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    raised = re.compile(r"(Error|Exception)$")
    errors = [c.name for c in classes if any(raised.search(ast.unparse(b)) for b in c.bases)]
    assert [name for name in errors if not name.endswith("Error")] == []
    settings = TREES[PACKAGE / "core/config.py"].body
    models = [node.name for node in settings if isinstance(node, ast.ClassDef)]
    assert [name for name in models if not name.endswith("Config")] == []


def test_every_error_has_one_root() -> None:
    """All but one, whose module is copied beside the registered model and runs by itself."""
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    known = {"AboVqaError"}
    while derived := {name for name, parents in bases.items() if parents & known} - known:
        known |= derived
    errors = {name for name in bases if is_exception(name, bases)}
    assert errors - known == {"UnreadableImageError"}


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/layers.svg"])
def test_the_layers_are_those_that_import_linter_checks(page: str) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [name.removeprefix("abo_vqa.") for name in contracts["contracts"][0]["layers"]]
    packages = [name for name in layers if (PACKAGE / name).is_dir()]
    text = (ROOT / page).read_text(encoding="utf-8")
    named = [a or b for a, b in re.findall(r"(?m)^\| `(\w+)` \||fill=\"#\w+\">(\w+)</text>", text)]
    assert [name for name in named if name in packages] == packages
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == set(packages)
