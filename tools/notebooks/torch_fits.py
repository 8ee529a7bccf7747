"""Say whether this Python's torch is one that the project supports, and can use a GPU: exit code 0.

Run by the notebooks with the service's own Python, before anything is installed.
"""

from __future__ import annotations

import sys
import tomllib
from importlib import metadata
from pathlib import Path

NEEDED = ("torch", "torchvision")


def problems(pyproject: Path) -> list[str]:
    """List what keeps this Python's torch from being used.

    Args:
        pyproject: the project's settings, with the versions that it supports.
    """
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        return ["there is no torch without `packaging`"]
    listed = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    wanted = {need.name: need.specifier for need in map(Requirement, listed)}
    reasons = []
    for name in NEEDED:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            reasons.append(f"{name} isn't installed")
            continue
        if not wanted[name].contains(version, prereleases=True):
            reasons.append(f"{name} {version} isn't {wanted[name]}")
    if not reasons:
        import torch

        if not torch.cuda.is_available():
            reasons.append(f"torch {torch.__version__} can't use a GPU")
    return reasons


def main() -> int:
    """Print the reasons, and return 0 if there are none."""
    reasons = problems(Path(__file__).parents[2] / "pyproject.toml")
    print("; ".join(reasons) or "the torch that is installed fits: it is used as it is")
    return int(bool(reasons))


if __name__ == "__main__":
    sys.exit(main())
