"""Files by which the front end tells the workers what to serve, and they tell how it went."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.serving.source import ModelSource


@dataclass(frozen=True)
class Wanted:
    """The model that all workers should serve.

    Attributes:
        generation: counts the changes.
        source: the model.
    """

    generation: int
    source: ModelSource


class StateFolder:
    """The files of one server.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wanted = folder / "wanted.json"

    def want(self, wanted: Wanted) -> None:
        """Ask all workers, present and future, to serve a model."""
        write_json(asdict(wanted), self._wanted)

    def wanted(self) -> Wanted:
        """Return what is wanted."""
        fields = read_json(self._wanted)
        return Wanted(fields["generation"], ModelSource(**fields["source"]))

    def changed_at(self) -> int:
        """Return when something was wanted last."""
        return self._wanted.stat().st_mtime_ns

    def report(self, worker: int, generation: int, reason: str) -> None:
        """Say how a change went; an empty reason means well."""
        write_json({"generation": generation, "reason": reason}, self._report(worker))

    def reported(self, worker: int) -> tuple[int, str]:
        """Return the last change that a worker reported, and why it failed; (-1, "") if none."""
        try:
            fields = read_json(self._report(worker))
        except UserError:
            return -1, ""
        return fields["generation"], fields["reason"]

    def forget(self, worker: int) -> None:
        """Forget what a worker reported, before it is started again."""
        self._report(worker).unlink(missing_ok=True)

    def _report(self, worker: int) -> Path:
        return self._folder / f"worker-{worker}.json"
