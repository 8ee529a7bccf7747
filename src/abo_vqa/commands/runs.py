"""`abo-vqa runs`: from a file to the run that made it, and from a run to its files.

Files are known by their content, so a copy elsewhere, or one under another name, is found, too.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.scratch import project_root
from abo_vqa.core.tracking.addresses import mask_login, store
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.browsing import how_to_browse
from abo_vqa.core.tracking.experiment import prepare
from abo_vqa.core.tracking.lookup import (
    Match,
    RunIndex,
    hash_of,
    input_digests,
    output_digests,
    versions,
)
from abo_vqa.core.tracking.restore import restore_command
from abo_vqa.core.tracking.reused import RESTORED


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument(
        "what",
        metavar="PATH|RUN",
        help="a file or folder: which run made it; or a run's id or name: its files, its commit, "
        "and the commands that bring them back",
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def command(args: argparse.Namespace) -> int:
    """Print the run of a file, or the files of a run.

    Args:
        args: the options.

    Returns:
        The exit code.

    Raises:
        UserError: there is no such file or run, or no run made the file.
    """
    path = Path(args.what).absolute()
    os.chdir(project_root())
    experiment = prepare(load_config().tracking.experiment)
    client = connect()
    index = RunIndex(client, experiment)
    if path.exists():
        answer = _file_answer(client, index, path, args.what)
        lines = _file_lines(answer)
    else:
        answer = _run_answer(client, index, args.what)
        lines = _run_lines(answer)
    print(json.dumps(answer, indent=2) if args.json else "\n".join(lines))
    return 0


def _file_answer(client: MlflowClient, index: RunIndex, path: Path, typed: str) -> dict[str, Any]:
    """Describe the runs that made and read a file.

    Raises:
        UserError: no run made it.
    """
    digest = hash_of(path)
    matches = index.makers(digest)
    readers = [_short(index, run) for run in index.readers(digest)]
    if not matches:
        raise UserError(
            f"no run made {typed} (MD5 {digest}); {len(index.runs):,} runs were searched at "
            f"{mask_login(store()[0])}. It was changed since, comes from elsewhere, or was made "
            "before runs were recorded here."
            + (f" Read by: {', '.join(r['name'] for r in readers)}." if readers else "")
        )
    newest = matches[0]
    return {
        "path": typed,
        "hash": digest,
        "output": newest.output,
        "member": newest.member,
        "copy": not _is_same_place(path, Path(newest.output, newest.member)),
        "made_by": _long(client, index, newest.run),
        "also_made_by": [_short(index, match.run) for match in matches[1:]],
        "read_by": readers,
        "restore": _restore(newest),
    }


def _is_same_place(path: Path, other: Path) -> bool:
    """Tell whether two paths are the same; DVC's links to its cache aren't followed."""
    return path.name == other.name and path.parent.resolve() == other.parent.resolve()


def _restore(match: Match) -> str:
    tags = match.run.data.tags
    digest = output_digests(match.run)[match.output]
    stage = tags.get("dvc.stage", "")
    commit = tags.get("mlflow.source.git.commit", "")
    return restore_command(match.output, digest, stage, commit, match.member)


def _run_answer(client: MlflowClient, index: RunIndex, name: str) -> dict[str, Any]:
    """Describe a run and its files; of an invocation, those of all its stages.

    Raises:
        UserError: there is no such run, or several start like this.
    """
    runs = index.find(name)
    if not runs:
        raise UserError(
            f"there is no file {name}, and no run of this id or name among {len(index.runs):,} at "
            f"{mask_login(store()[0])}. `make ui` shows their names; the first 6 digits of an id "
            "suffice."
        )
    if len({run.info.run_name for run in runs}) > 1:
        starts = ", ".join(f"{run.info.run_id[:12]} ({run.info.run_name})" for run in runs[:5])
        raise UserError(f"{len(runs)} runs start with {name}: {starts}. Type more digits.")
    run = runs[0]
    stages = index.children(run) or [run]
    files = [
        {
            "path": path,
            "hash": digest,
            "stage": stage.info.run_name,
            "restore": _restore(Match(stage, path)),
        }
        for stage in stages
        for path, digest in output_digests(stage).items()
    ]
    read = [{"path": path, "hash": digest} for path, digest in input_digests(run).items()]
    others = [_short(index, other) for other in runs[1:]]
    answer = _long(client, index, run) | {"made": files, "read": read, "others": others}
    return answer | {"restored": run.data.tags.get(RESTORED, "")}


def _short(index: RunIndex, run: Run) -> dict[str, str]:
    parent = index.parent(run)
    within = "" if parent is None else str(parent.info.run_name)
    return {"id": run.info.run_id, "name": run.info.run_name, "within": within}


def _long(client: MlflowClient, index: RunIndex, run: Run) -> dict[str, Any]:
    """Describe a run: when and from what it was made."""
    info, tags = run.info, run.data.tags
    ended = info.end_time or info.start_time
    dirty = tags.get("mlflow.source.git.dirty")
    return _short(index, run) | {
        "status": info.status,
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info.start_time / 1000)),
        "seconds": round((ended - info.start_time) / 1000),
        "command": tags.get("mlflow.source.name", ""),
        "commit": tags.get("mlflow.source.git.commit", ""),
        "uncommitted_changes": dirty == "true",
        "models": list(versions(client, run)),
        "page": f"#/experiments/{info.experiment_id}/runs/{info.run_id}",
    }


def _head_lines(run: Mapping[str, Any]) -> list[str]:
    """Return the lines about a run itself."""
    within = f" in {run['within']}" if run["within"] else ""
    commit = run["commit"][:7] or "unknown"
    lines = [
        f"{run['name']} {run['id']}{within}",
        f"  {run['status']}, {run['started']}, {run['seconds']} s: {run['command']}",
        f"  commit {commit}" + (", with uncommitted changes" * run["uncommitted_changes"]),
    ]
    for model in run["models"]:
        aliases = ", ".join(model["aliases"]) or "no alias"
        lines.append(f"  model {model['name']} version {model['version']} ({aliases})")
    return [*lines, f"  browse: {how_to_browse(store()[0], run['page'])}"]


def _file_lines(answer: Mapping[str, Any]) -> list[str]:
    """Return what is printed about a file."""
    place = "/".join(filter(None, (answer["output"], answer["member"])))
    copy = f" is a copy of {place}" if answer["copy"] else ""
    lines = [f"{answer['path']}{copy} ({answer['hash']}), made by"]
    lines += _head_lines(answer["made_by"])
    for key, text in (("also_made_by", "the same content"), ("read_by", "read by")):
        if runs := answer[key]:
            names = ", ".join(f"{run['name']} {run['id'][:8]}" for run in runs[:5])
            more = f" and {len(runs) - 5} more" if len(runs) > 5 else ""
            lines.append(f"  {text}: {names}{more}")
    return [*lines, "bring it back:", f"  {answer['restore']}"]


def _run_lines(answer: Mapping[str, Any]) -> list[str]:
    """Return what is printed about a run."""
    lines = _head_lines(answer)
    if others := answer["others"]:
        lines.append(f"  the newest of {len(others) + 1} runs of this name")
    if answer["restored"]:
        lines.append(f"  restored, not run: {answer['restored']}")
    files: Sequence[Mapping[str, str]] = answer["made"]
    lines += ["made, and how to bring it back:" if files else "made no file that DVC tracks"]
    width = max((len(file["path"]) for file in files), default=0)
    for file in files:
        lines.append(f"  {file['path']:{width}}  {file['hash']:36}  {file['restore']}")
    if read := answer["read"]:
        lines.append("read:")
        width = max(len(file["path"]) for file in read)
        lines += [f"  {file['path']:{width}}  {file['hash']}" for file in read]
    return lines
