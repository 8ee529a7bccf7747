"""Push what `make sample` made to the DVC remote inside the repository.

The sample's outputs say `push: false`, so that a user's `dvc push` never writes into the git
tree. Only here are they pushed on purpose.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

REMOTE = "sample"
FOLDER = Path("samples/dvc-remote")
TRACKED = ("data/raw/sample.dvc", "models/sample.dvc")


def ship(tracked: Sequence[str] = TRACKED, folder: Path = FOLDER) -> int:
    """Record the sample's files in DVC and refill the remote with them; return their number.

    The remote is rebuilt, so that it holds no files of earlier samples. Only outputs assigned to
    the remote `sample` go there.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        for name in tracked:
            if Path(name).is_file():
                repo.commit(name, force=True)
    with Repo() as repo:  # anew: it has read the files before they were committed
        outs = [out for stage in repo.index.stages for out in stage.outs if out.remote == REMOTE]
        objects = {info for out in outs for infos in out.get_used_objs().values() for info in infos}
        shutil.rmtree(folder / "files", ignore_errors=True)
        return len(repo.cloud.push(objects, remote=REMOTE).transferred)
