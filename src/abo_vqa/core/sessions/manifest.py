"""The list of what a folder has of a session. Replacing it is what makes a save count."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_write, read_utf8

MANIFEST = "session.json"
PREVIOUS = "session.previous.json"
_FORMAT = 1
_Name = Annotated[str, Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")]


class SavedFile(BaseModel):
    """A file of the checkout as it was: its contents' name, and what shows that it has changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: _Name
    size: int
    mtime_ns: int


class Manifest(BaseModel):
    """One save of a session.

    Attributes:
        format: how it is written.
        session: what tells sessions apart.
        number: counts a session's saves.
        saved_at: when, in UTC.
        commit: the checkout's.
        files: files by their path in the checkout.
        objects: names in DVC's cache.
        outputs: what `dvc checkout` brings back from them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = _FORMAT
    session: str
    number: int
    saved_at: str
    commit: str
    files: dict[str, SavedFile]
    objects: tuple[_Name, ...]
    outputs: tuple[str, ...]

    def names(self) -> set[str]:
        """Return the names of all contents."""
        return {*self.objects, *(file.name for file in self.files.values())}


def read_manifest(file: Path) -> Manifest | None:
    """Read a list; None if there is none.

    Args:
        file: the list.

    Raises:
        UserError: It is something else, or leads out of the checkout.
    """
    if not file.is_file():
        return None
    try:
        manifest = Manifest.model_validate_json(read_utf8(file))
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"])) or "the file"
        raise UserError(
            f"{file} isn't the list of a saved session ({where}: {detail['msg']}). Name the folder "
            "that `abo-vqa session save` wrote."
        ) from error
    if manifest.format != _FORMAT:
        raise UserError(
            f"{file} has format {manifest.format}, and this version of abo-vqa reads {_FORMAT}. "
            "Use the version that saved it."
        )
    for text in (*manifest.files, *manifest.outputs):
        if Path(text).is_absolute() or ".." in Path(text).parts:
            raise UserError(f"{file} names {text!r}, which is outside the checkout: refused.")
    return manifest


def write_manifest(manifest: Manifest, file: Path) -> None:
    """Write a list atomically.

    Args:
        manifest: the list.
        file: where to.
    """
    with atomic_write(file) as temporary:
        temporary.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
