"""Settings of the archives: where they are, whose they are, where they come from."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import field_validator

from abo_vqa.core.config_base import BaseConfig


class DownloadConfig(BaseConfig):
    """A file to download: its address and, once known, its size in bytes and SHA-256."""

    url: str  # where the archive is downloaded from
    bytes: int | None = None  # its size; what was measured is in the profile's .lock.json
    sha256: str | None = None  # its hash; another file is refused


class DataConfig(BaseConfig):
    """The archives: their folder, their licence, and where they are downloaded from.

    `name` is the catalogue's in titles and cards. `study`: the report compares with the published
    study, which only makes sense for its own catalogue. Archives at a URL are read there, in place:
    see `abo_vqa.core.remote_pin`.
    """

    raw: Path  # the folder of the archives, or of what they unpack to; or its URL (s3://…)
    url: str | None = None  # raw, if it is a URL: `abo-vqa fetch` pins it in data/raw/<profile>
    licence: str  # printed in the report, the cards and exports
    attribution: str  # whom to credit, printed there as well
    name: str = "a catalogue of products"  # the catalogue's, in titles and cards
    study: bool = False  # compare with the published study, made of ABO
    notice: str = ""  # what everybody who meets the numbers must know; beneath every headline
    listings: DownloadConfig | None = None
    images: DownloadConfig | None = None

    @field_validator("raw", mode="before")
    @classmethod
    def _check_slashes(cls, raw: object) -> object:
        """Refuse what would be taken for a folder called "s3:"."""
        if isinstance(raw, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)", raw):
            scheme, _, rest = raw.partition(":/")
            raise ValueError(f"a URL has two slashes, {scheme}://{rest}")
        return raw
