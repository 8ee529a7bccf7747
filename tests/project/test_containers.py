"""Dockerfile, docker-compose.yml, devcontainer.json: sound, and about what is really here.

No image is built here; docs/containers.md says what was tried.
"""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pathspec
import pytest
import yaml

from tests.support import ROOT
from tests.support.servers.tracking import COMPOSE

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = re.sub(r"(?m)^\s*#.*\n", "", TEXT).replace("\\\n", " ").splitlines()
TARGETS = re.findall(r"(?m)^FROM \S+ AS (\w+)$", TEXT)


def run(*words):
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_dockerfile_passes_hadolint():
    assert run("hadolint", "--config", ".hadolint.yaml", "Dockerfile") == (0, "")


def test_hadolint_would_notice(tmp_path):
    bad = tmp_path / "Dockerfile"
    bad.write_text(TEXT.replace(" --no-install-recommends", "") + "RUN cd /tmp && sudo ls\n")
    code, printed = run("hadolint", "--config", ".hadolint.yaml", str(bad))
    assert code != 0
    assert "DL3015" in printed
    assert "DL3004" in printed


def test_compose_file_is_valid():
    check = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec"]
    code, printed = run(*check, "docker-compose.yml")
    assert code == 0, printed
    if shutil.which("docker") and run("docker", "compose", "version")[0] == 0:
        code, printed = run("env", "POSTGRES_PASSWORD=x", "docker", "compose", "config", "--quiet")
        assert code == 0, printed


def test_images_are_pinned_and_no_secret_is_committed():
    bases = re.findall(r"(?m)^ARG BASE_IMAGE=(.*)$", TEXT)
    images = bases + [s["image"] for s in COMPOSE.values() if "build" not in s]
    assert len(images) == 2
    for image in images:
        assert re.search(r":\d+\.\d+(\.\d+)?-\w", image), image
    for service in COMPOSE.values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name:
                assert value.startswith("${POSTGRES_PASSWORD:?"), name
    tracked = run("git", "ls-files")[1].splitlines()
    assert [name for name in tracked if Path(name).name.startswith(".env")] == []
    assert run("git", "check-ignore", ".env")[0] == 0
    assert ".env" in (ROOT / ".dockerignore").read_text().splitlines()


def test_everything_waits_for_what_it_needs():
    for name, service in COMPOSE.items():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy", (name, other)
            assert "healthcheck" in COMPOSE[other]
    targets = {s["build"]["target"] for s in COMPOSE.values() if "build" in s}
    assert targets == {"tracking", "pipeline"}
    assert targets <= set(TARGETS)


def test_volumes_of_the_compose_file_are_folders_that_the_user_owns():
    """A volume takes the owner of what the image has there; else it is root's."""
    for name in ("mlflow", "pipeline"):
        for volume in COMPOSE[name]["volumes"]:
            assert volume.partition(":")[2].startswith("/home/abo/")
    assert "mkdir -p /home/abo/abo-vqa/.venv /home/abo/artifacts" in TEXT
    assert COMPOSE["mlflow"]["volumes"] == ["artifacts:/home/abo/artifacts"]


def test_no_container_runs_as_root():
    user = next(i for i, line in enumerate(INSTRUCTIONS) if line.startswith("USER "))
    assert INSTRUCTIONS[user] == "USER 1000"
    assert "--uid 1000" in "\n".join(INSTRUCTIONS[:user])
    assert INSTRUCTIONS[user + 1 :].count("USER root") == 0
    assert TARGETS[0] == "base"
    assert [line for line in INSTRUCTIONS if line.startswith("FROM ")][1:] == [
        f"FROM base AS {name}" for name in TARGETS[1:]
    ]


def test_libraries_are_installed_before_the_sources_are_copied():
    lines = INSTRUCTIONS[INSTRUCTIONS.index("FROM base AS pipeline") :]
    sources = lines.index("COPY --chown=abo:abo . .")
    installed = next(i for i, line in enumerate(lines) if "--requirement pyproject.toml" in line)
    assert installed < sources
    copied = [line for line in lines[:installed] if line.startswith("COPY ")]
    (files,) = [shlex.split(line)[2:-1] for line in copied]
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_make_targets_that_containers_call_exist():
    known = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    known |= {".venv/bin/uv", ".venv/dev"}
    devcontainer = read_devcontainer()
    called = re.findall(r"\bmake ([^\"\n&]+)", "\n".join(INSTRUCTIONS))
    called.append(devcontainer["postCreateCommand"].removeprefix("make "))
    called += re.findall(r"CMD \[\"make\", \"(\w+)\"\]", TEXT)
    for words in called:
        assert set(words.split()) <= known, words


@pytest.mark.parametrize("name", ["Makefile", "src/abo_vqa/cli.py", "dvc.lock", "data/audit.json"])
def test_dockerignore_would_be_noticed(name):
    assert not ignored().match_file(name)


def ignored():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return pathspec.GitIgnoreSpec.from_lines(_as_git_reads_it(line) for line in lines)


def _as_git_reads_it(line):
    """Docker's patterns start at the root, and a slash at their end means nothing."""
    if not line or line.startswith(("#", "**/")):
        return line
    line = line.rstrip("/")
    return f"!/{line[1:]}" if line.startswith("!") else f"/{line}"


def test_dockerignore_leaves_out_no_tracked_file():
    """Else the commit in the image would seem to be changed."""
    tracked = run("git", "ls-files")[1].splitlines()
    assert list(ignored().match_files(tracked)) == []


def test_dockerignore_leaves_out_secrets_and_gigabytes():
    for name in (
        ".env", ".venv/bin/python", "data/raw/abo/abo-listings.tar", ".dvc/cache/files/a",
        ".dvc/config.local", "models/adapter/adapter_model.safetensors", "mlflow.db",
        "mlartifacts/1/a", ".cache/abo-vqa/x", "src/abo_vqa/__pycache__/a.pyc",
    ):  # fmt: skip
        assert ignored().match_file(name), name


# ---- devcontainer.json


def read_devcontainer():
    text = (ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8")
    return json.loads(re.sub(r"(?m)^\s*//.*$", "", text))


KEYS = {
    "name", "build", "remoteUser", "workspaceFolder", "workspaceMount", "mounts", "containerEnv",
    "remoteEnv", "postCreateCommand", "forwardPorts", "portsAttributes", "customizations",
}  # fmt: skip


def test_devcontainer_has_known_keys_and_paths_that_exist():
    settings = read_devcontainer()
    assert set(settings) <= KEYS  # of the specification's, those that are used
    build = settings["build"]
    folder = ROOT / ".devcontainer"
    assert (folder / build["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (folder / build["context"]).resolve() == ROOT
    assert build["target"] in TARGETS
    workspace = settings["workspaceFolder"]
    assert f"target={workspace},type=bind" in settings["workspaceMount"]
    assert f"WORKDIR {workspace}" in INSTRUCTIONS
    assert f"useradd --create-home --uid 1000 --shell /bin/bash {settings['remoteUser']}" in TEXT
    python = settings["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert python == f"{workspace}/.venv/bin/python"


def test_yaml_of_the_linter_is_read():
    assert yaml.safe_load((ROOT / ".hadolint.yaml").read_text())["ignored"] == ["DL3008"]
