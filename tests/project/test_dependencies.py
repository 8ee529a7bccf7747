"""dvc.yaml lists the code that a stage's results depend on, and journals are tied to the same."""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from abo_vqa import cli
from abo_vqa.core.fingerprints import file_md5, stage_code
from abo_vqa.core.paths import is_output
from abo_vqa.models.registry import FAMILIES
from tests.support import ROOT

PACKAGE = ROOT / "src/abo_vqa"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Code without which no stage runs and on which no result depends: it finds, reads, locks and
# writes files, parses settings, keeps records, ends processes. The choice of a device and a number
# format is none of it, nor are statistics.
PLUMBING = {"core"}
NOT_PLUMBING = {"core/devices.py", "core/proportions.py"}
# How a service is asked changes no answer, and what was paid for isn't asked again because code has
# changed: a stage that models of any kind answer in doesn't depend on the clients.
ENDPOINT, CLIENTS = {"models/endpoint"}, {"remote", "data/pairs.py"}


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


def imports(file: Path) -> set[Path]:
    """The package's files that a file imports, at its top or in a function."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):  # what is there for the type checker only
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    names = {name.removeprefix("abo_vqa.") for name in named(tree) if "." in name}
    return {found for name in names if (found := file_of(name))}


def listed(file: Path, parts: set[str]) -> bool:
    """Whether a file is among some of the package's files and folders."""
    name = file.relative_to(PACKAGE)
    return bool({str(name), *map(str, name.parents)} & parts)


def is_plumbing(file: Path) -> bool:
    return listed(file, PLUMBING) and not listed(file, NOT_PLUMBING)


def has_code(file: Path) -> bool:
    """Whether a file is more than a docstring, as a package's face is."""
    return len(ast.parse(file.read_text(encoding="utf-8")).body) > 1


def closure(stage: str) -> set[Path]:
    """The files that a stage's module imports, directly or not, but for plumbing."""
    seen: set[Path] = set()
    todo = {file_of(cli.COMMANDS[stage][0].removeprefix("abo_vqa."))}
    while todo:
        file = todo.pop()
        assert file is not None
        seen.add(file)
        found = {f for f in imports(file) if not is_plumbing(f)} - seen
        todo |= {f for f in found if not (listed(file, ENDPOINT) and listed(f, CLIENTS))}
    return seen


def code_of(stage: str) -> set[str]:
    """What dvc.yaml lists for a stage, of src/abo_vqa."""
    entry = STAGES[stage].get("do", STAGES[stage])  # of a foreach
    deps = [dep for dep in entry["deps"] if dep.startswith("src/abo_vqa/")]
    return {dep.removeprefix("src/abo_vqa/") for dep in deps}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_runs(stage: str) -> None:
    missing = [f for f in closure(stage) if not listed(f, code_of(stage)) and has_code(f)]
    assert sorted(str(f.relative_to(PACKAGE)) for f in missing) == []


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_listed_is_there_and_used(stage: str) -> None:
    used = {str(p) for f in closure(stage) for p in (f, *f.parents)}
    assert [part for part in code_of(stage) if str(PACKAGE / part) not in used] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_file_of_its_name(stage: str) -> None:
    assert cli.COMMANDS[stage][0] == f"abo_vqa.stages.{stage}"
    assert {f.stem for f in (PACKAGE / "stages").glob("[a-z]*.py")} == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_journal_is_tied_to_the_code_that_dvc_watches(stage: str) -> None:
    found = stage_code(stage)
    assert {f"abo_vqa/stages/{stage}.py", "abo_vqa/data/image_decoding.py"} & set(found)
    for name, digest in found.items():
        assert listed(ROOT / "src" / name, code_of(stage))
        assert digest == file_md5(ROOT / "src" / name)


@pytest.mark.parametrize(
    ("stage", "section", "key"),
    [
        ("generate", "generate", "prompt"),
        ("generate", "generate", "review"),
        ("inputs", "baselines", "answers"),
        ("evaluate", "evaluate", "aliases"),
        ("verifiers", "baselines", "answers"),
        ("verify", "evaluate", "aliases"),
    ],
)
def test_a_stage_depends_on_the_file_that_a_setting_names(
    tmp_path: Path, stage: str, section: str, key: str
) -> None:
    """DVC's own resolution of the stage, whichever file the setting names."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params[section][key] = "mine.txt"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        resolved = repo.stage.load_one(str(tmp_path / "dvc.yaml"), stage)
        assert str(tmp_path / "mine.txt") in {dep.fs_path for dep in resolved.deps}


@pytest.mark.parametrize("cosine", [{}, {"blip": 0.95}, {"blip": 0.95, "clip": 0.9}])
def test_only_vectors_that_a_setting_names_are_computed_and_before_they_are_compared(
    tmp_path: Path, cosine: dict[str, float]
) -> None:
    """DVC's own graph of the stages."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert params["split"]["cosine"] == {}
    params["split"]["cosine"] = cosine
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        graph = repo.index.graph
        names = {stage.name: stage for stage in graph}
        stages = {f"vectors@{model}" for model in cosine}
        assert {name for name in names if name.startswith("vectors")} == stages
        for name in ("verify", "split", "finetune"):
            before = {stage.name for stage in graph.successors(names[name])}
            assert {stage for stage in before if stage.startswith("vectors")} == stages


def test_no_output_of_a_stage_is_taken_for_a_users_own_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC's own list of what the stages write."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["split"]["cosine"] = {"blip": 0.95}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        outputs = [Path(output.fs_path) for output in repo.index.outs]
    assert len(outputs) > 30
    assert [path for path in outputs if not is_output(path)] == []


def test_the_folder_of_vectors_is_there_without_any() -> None:
    """Stages depend on it; DVC adds nothing to this file, and git nothing else."""
    assert (ROOT / "data/vectors/.gitignore").read_text() == "*\n!.gitignore\n"
