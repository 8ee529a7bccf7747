"""How to bring back what a run made: the DVC commands, from the commits that recorded it."""

from __future__ import annotations

import shlex
from pathlib import Path

from abo_vqa.core.tracking.origin import git

_LOCK = Path("dvc.lock")


def restore_command(output: str, digest: str, stage: str, commit: str, member: str = "") -> str:
    """Return the command that brings an output back.

    Args:
        output: its path in the repository.
        digest: DVC's hash of it.
        stage: the stage that made it.
        commit: the commit that stage ran on.
        member: a file's name within that folder; "" for all of it.
    """
    path = f"{output}/{member}" if member else output
    quoted = shlex.quote(path)
    if _LOCK.is_file() and digest in _LOCK.read_text(encoding="utf-8"):
        in_git = git("ls-files", "--", output)
        return f"git restore {quoted}" if in_git else f"dvc checkout {shlex.quote(output)}"
    if revision := _recorded_in(digest):
        name = Path(path)
        copy = shlex.quote(f"{name.stem}-{revision[:7]}{name.suffix}")
        return f"dvc get . {quoted} --rev {revision[:7]} --out {copy}"
    # No commit has recorded it. DVC's own record of what it ran may still have it.
    return f"git switch --detach {commit[:7]} && dvc repro {shlex.quote(stage)}"


def _recorded_in(digest: str) -> str:
    """Return the first commit, of a branch or an experiment, whose dvc.lock has a hash, or ""."""
    commits = git("log", "--all", "--reverse", "--format=%H", f"-S{digest}", "--", str(_LOCK)) or ""
    return commits.partition("\n")[0]
