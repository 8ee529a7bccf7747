"""The picture that models are asked about: the first of the archives, else a drawn one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.doctor.findings import Case
from abo_vqa.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

SAMPLE = Path("data/raw/sample")
TRIES = 20  # pictures: archives have broken ones


def picture(case: Case) -> tuple[str, Image]:
    """Where it is from, and the picture."""
    from abo_vqa.archive import ImageError, open_archive

    for raw in dict.fromkeys((case.settings.data.raw, SAMPLE)):
        # What is wrong with archives is another check's finding.
        with suppress(UserError), open_archive(raw) as archive:
            for path in archive.pictures()[:TRIES]:
                with suppress(ImageError):
                    return f"{raw}: {path}", archive.image(path)
    return "a drawn square, for want of archives", drawn()


def drawn() -> Image:
    """A red square on white."""
    from PIL import Image, ImageDraw

    made = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(made).rectangle((64, 64, 192, 192), "red")
    return made
