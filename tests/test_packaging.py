"""What is said about the package in several places agrees, and what it imports is declared."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from abo_vqa import __version__

ROOT = Path(__file__).parent.parent
INIT = ROOT / "src/abo_vqa/__init__.py"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
HOME = "https://github.com/abo-vqa/abo-vqa"

# "google" belongs to many distributions: what is in it has a name of its own.
GOOGLE = {
    "google.genai": "google-genai",
    "google.generativeai": "google-generativeai",
    "google.api_core": "google-api-core",
}
# Parts of DVC and pydantic, each release of which wants its own: a bound could only contradict.
COMPANIONS = {"dvc-data": "dvc", "dvc-objects": "dvc", "pydantic-core": "pydantic"}


def read_yaml(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def imports(file: Path) -> Iterator[str]:
    """What a file imports when it runs; type checkers see more."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def foreign() -> dict[str, set[str]]:
    """The packages of others that ours imports, each with the files that do."""
    found: dict[str, set[str]] = {}
    ours = {"abo_vqa", *sys.stdlib_module_names}
    for file in (ROOT / "src").rglob("*.py"):
        for name in imports(file):
            parts = name.split(".")
            if parts[0] not in ours:
                package = ".".join(parts[: 2 if parts[0] == "google" else 1])
                found.setdefault(package, set()).add(str(file.relative_to(ROOT)))
    return found


def declared() -> set[str]:
    """The distributions that pyproject.toml lists, those of extras for users included."""
    extras = PROJECT["optional-dependencies"]
    lines = PROJECT["dependencies"] + [x for name in extras if name != "dev" for x in extras[name]]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_every_import_is_declared():
    known, distributions = declared(), packages_distributions()
    missing = {}
    for package, files in foreign().items():
        owners = [GOOGLE[package]] if package in GOOGLE else distributions.get(package, [])
        names = {canonicalize_name(owner) for owner in owners}
        if not {COMPANIONS.get(name, name) for name in names} & known:
            missing[package] = sorted(files)
    assert missing == {}


def test_the_version_is_stated_once_and_repeated_rightly():
    assert "version" in PROJECT["dynamic"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "abo_vqa.__version__"
    releases = re.findall(r"^## \[([\d.]+)\] - (\d{4}-\d\d-\d\d)$", CHANGELOG, re.MULTILINE)
    citation = read_yaml("CITATION.cff")
    assert releases[0] == (__version__, citation["date-released"])
    assert citation["version"] == __version__
    assert [date for _, date in releases] == sorted((date for _, date in releases), reverse=True)


def test_every_release_of_the_changelog_has_its_link():
    headings = re.findall(r"^## \[(.+?)\]", CHANGELOG, re.MULTILINE)
    assert headings == re.findall(rf"^\[(.+?)\]: {HOME}/", CHANGELOG, re.MULTILINE)


def test_the_version_can_be_read_without_running_anything():
    docstring, *others = ast.parse(INIT.read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)
    assert [ast.unparse(node) for node in others] == [f"__version__ = {__version__!r}"]


def test_the_project_has_one_address():
    told = [*PROJECT["urls"].values(), read_yaml("CITATION.cff")["repository-code"]]
    assert all(url == HOME or url.startswith(f"{HOME}/") for url in told), told


@pytest.mark.parametrize(
    "name",
    [
        ".pre-commit-config.yaml", "CITATION.cff", "dvc.yaml", "params.yaml",
        *(
            str(file.relative_to(ROOT))
            for folder in (".github", "conf")
            for file in sorted((ROOT / folder).rglob("*.y*ml"))
        ),
    ],
)  # fmt: skip
def test_yaml_can_be_read(name):
    assert isinstance(read_yaml(name), dict)


def test_continuous_integration_runs_what_everybody_runs():
    workflow = read_yaml(".github/workflows/ci.yml")
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert "bash .ci/run" in [step.get("run") for step in steps]
    assert workflow["permissions"] == {"contents": "read"}
    pythons = workflow["jobs"]["checks"]["strategy"]["matrix"]["python"]
    prefix = "Programming Language :: Python :: 3."
    told = [line for line in PROJECT["classifiers"] if line.startswith(prefix)]
    assert [f"3.{line.removeprefix(prefix)}" for line in told] == pythons


def test_hooks_have_the_versions_of_the_lock():
    lock = dict(
        re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    )
    repos = read_yaml(".pre-commit-config.yaml")["repos"]
    revs = {Path(r["repo"]).name.removesuffix("-pre-commit"): r.get("rev") for r in repos}
    for tool in ("ruff", "codespell", "check-jsonschema"):
        assert revs[tool].removeprefix("v") == lock[tool]


def test_hooks_leave_out_files_that_exist_and_no_file_fails_the_search_for_keys():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    hooks = [h for repo in read_yaml(".pre-commit-config.yaml")["repos"] for h in repo["hooks"]]
    for hook in hooks:
        if exclude := hook.get("exclude"):
            assert any(re.search(exclude, name) for name in files), exclude
    (keys,) = (hook for hook in hooks if hook["id"] == "gemini-key")
    pattern = re.compile(keys["entry"].encode())
    found = {name for name in files if pattern.search((ROOT / name).read_bytes())}
    assert found == {name for name in files if re.search(keys["exclude"], name)}
