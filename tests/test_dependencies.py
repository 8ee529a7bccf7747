"""dvc.yaml lists the code that a stage's results depend on, and journals are tied to the same."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from abo_vqa import cli, embed, finetune, predict
from abo_vqa.models import FAMILIES

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src/abo_vqa"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

# Code without which no stage runs and on which no result depends: it finds, reads, locks and
# writes files, parses settings, keeps records, ends processes.
PLUMBING = {
    "batch_sizes.py", "config.py", "csvfile.py", "errors.py", "io.py", "locks.py", "memory.py",
    "models/hub.py", "processes.py", "refusals.py", "stage.py", "tarindex.py", "tracking",
}  # fmt: skip
# Imported, and not used for the stage's results.
ADAPTERS = "models/adapters.py"  # attached for predictions only
UNUSED = {
    "generate": {"listings.py"},  # of an archive it takes pictures
    "split": {"archive.py", "listings.py"},  # pictures come from a folder, in the command only
    "embed": {
        "listings.py", "models/__init__.py", ADAPTERS, "models/decoding.py",  # it asks nothing
        "models/blip_absorbed.py", "models/blip_answer.py", "models/blip_attention.py",
    },
    "inputs": {
        # Their results come as files; the code that answers is the stage baseline's.
        "answering.py", "archive.py", "batching.py", "embedding_store.py", "listings.py",
        "metrics/normalise.py", "picture_sources.py", "pictures.py", "questions.py",
        *(f"models/{f.name}" for f in (PACKAGE / "models").glob("*.py")),
    } - {"models/__init__.py", "models/loading.py"},
    "baseline": {"listings.py"},
    "finetune": {"archive.py", "listings.py", ADAPTERS},
    "evaluate": {"listings.py"},
    "report": {"listings.py"},
}  # fmt: skip
LOADER = PACKAGE / "models/__init__.py"
BLIP_ONLY = ("embed", "finetune")


def file_of(module: str) -> Path | None:
    """A module's file, of its name without "abo_vqa."."""
    place = PACKAGE / module.replace(".", "/")
    return next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()), None)


def named(tree: ast.AST) -> Iterator[str]:
    """Modules of the package that a file imports at any time, or names in a table of them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("abo_vqa"):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and str(node.value) in FAMILIES.values():
            yield str(node.value).partition(":")[0]


def imports(file: Path, blip_only: bool) -> set[Path]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):  # what is there for the type checker only
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    names = {name.removeprefix("abo_vqa.") for name in named(tree) if "." in name}
    if blip_only and file == LOADER:
        names -= {target.split(":")[0].removeprefix("abo_vqa.") for target in FAMILIES.values()}
        names.add("models.blip")
    return {found for name in names if (found := file_of(name))}


def listed(file: Path, parts: set[str]) -> bool:
    """Whether a file is among some of the package's files and folders."""
    name = file.relative_to(PACKAGE)
    return bool({str(name), *map(str, name.parents)} & parts)


def closure(stage: str) -> set[Path]:
    """The files that a stage's module imports, directly or not, but for plumbing."""
    seen: set[Path] = set()
    todo = {file_of(cli.COMMANDS[stage][0].removeprefix("abo_vqa."))}
    while todo:
        file = todo.pop()
        assert file is not None
        seen.add(file)
        found = imports(file, stage in BLIP_ONLY)
        todo |= {f for f in found if not listed(f, PLUMBING)} - seen
    return seen


def code_of(stage: str) -> set[str]:
    """What dvc.yaml lists for a stage, of src/abo_vqa."""
    deps = [dep for dep in STAGES[stage]["deps"] if dep.startswith("src/abo_vqa/")]
    return {dep.removeprefix("src/abo_vqa/") for dep in deps}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_runs(stage: str) -> None:
    known = code_of(stage) | UNUSED.get(stage, set())
    inits = {PACKAGE / "__init__.py", *PACKAGE.glob("*/__init__.py")} - {LOADER}
    missing = [f for f in closure(stage) - inits if not listed(f, known)]
    assert sorted(str(f.relative_to(PACKAGE)) for f in missing) == []


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_listed_is_there_and_used(stage: str) -> None:
    used = {str(p) for f in closure(stage) for p in (f, *f.parents)}
    assert [part for part in code_of(stage) if str(PACKAGE / part) not in used] == []
    assert code_of(stage) & (UNUSED.get(stage, set()) | PLUMBING) == set()
    exempt = [part for part in UNUSED.get(stage, set()) if not part.startswith("models/")]
    assert [part for part in exempt if str(PACKAGE / part) not in used] == []


@pytest.mark.parametrize(
    ("stage", "code"),
    [("embed", embed.CODE), ("baseline", predict.CODE), ("finetune", finetune.CODE)],
)
def test_a_journal_is_tied_to_the_code_that_dvc_watches(stage: str, code: tuple[str, ...]) -> None:
    assert set(code) == code_of(stage)


def test_the_code_of_a_journal_is_read_from_this_package(tmp_path: Path) -> None:
    from abo_vqa.io import file_md5, own_code

    found = own_code(["embed.py", "training"])
    assert found["embed.py"] == file_md5(PACKAGE / "embed.py")
    assert set(found) == {"embed.py", *(f"training/{f.name}"
                                        for f in (PACKAGE / "training").glob("*.py"))}  # fmt: skip
