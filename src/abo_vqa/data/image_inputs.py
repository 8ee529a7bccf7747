"""Images as programs send them: bytes, base64, a data URL, an address or a path, where allowed."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abo_vqa.core.errors import UserError
from abo_vqa.data.web_images import FetchError, WebImages

_SHORTEST = 32  # characters: a file's name could be base64 by chance, and no image is that small
_LONGEST_PATH = 4096


class ImageInputError(UserError):
    """What was sent isn't an image, or comes from where none is taken; the message says why."""


@dataclass(frozen=True)
class ImageQuestion:
    """A question about an image.

    Attributes:
        image: the image file's bytes.
        question: the question.
    """

    image: bytes
    question: str


@dataclass(frozen=True)
class ImageInputs:
    """Where images may come from, besides what is sent as bytes or base64.

    Attributes:
        paths: whether files are read.
        folder: only files below this folder; None: any that this process may read.
        web: fetches addresses; None: none is fetched.
        advice: how the operator allows addresses, for the message.
        max_bytes: of an image.
    """

    paths: bool = False
    folder: Path | None = None
    web: WebImages | None = None
    advice: str = ""
    max_bytes: int = 50_000_000

    def read(self, value: Any) -> bytes:
        """Return an image's bytes; they aren't decoded yet.

        Args:
            value: the bytes, or a text: base64, a data URL, an address or a path.

        Raises:
            ImageInputError: there is no image, or it mustn't be read.
        """
        if isinstance(value, bytes | bytearray | memoryview):
            return self._within_limit(bytes(value))
        if not isinstance(value, str | os.PathLike) or not str(value).strip():
            raise ImageInputError("no image given")
        text = str(os.fspath(value)).strip()
        if text[:5].lower() == "data:":
            return self._within_limit(self._data_url(text))
        if text[:8].lower().startswith(("http://", "https://")):
            return self._fetch(text)
        if (file := self._file(text)) is not None:
            return self._within_limit(file.read_bytes())
        try:
            return self._within_limit(_decode_base64(text))
        except ValueError:
            raise ImageInputError(self._unknown(text)) from None

    def _within_limit(self, data: bytes) -> bytes:
        if len(data) > self.max_bytes:
            raise ImageInputError(f"the image has more than {self.max_bytes:,} bytes")
        return data

    def _data_url(self, text: str) -> bytes:
        head, comma, body = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise ImageInputError("a data URL must be like data:image/png;base64,…")
        try:
            return _decode_base64(body)
        except ValueError:
            raise ImageInputError("the data URL holds no base64") from None

    def _fetch(self, url: str) -> bytes:
        if self.web is None:
            advice = f": {self.advice}, or send base64" if self.advice else "; send base64"
            raise ImageInputError(f"URLs aren't fetched{advice}")
        try:
            return self.web.fetch(url)
        except FetchError as error:
            raise ImageInputError(f"can't fetch {url[:200]}: {error}") from error

    def _file(self, text: str) -> Path | None:
        """Return the file that a text names, if it may be read."""
        if not self.paths or len(text) > _LONGEST_PATH or "\0" in text:
            return None
        path = Path(text) if self.folder is None else self.folder / text
        try:
            if self.folder is not None:
                # The real place counts: neither "..", nor a link, leads outside.
                path = path.resolve()
                if not path.is_relative_to(self.folder.resolve()):
                    return None
            return path if path.is_file() else None
        except (OSError, RuntimeError):  # a name that is too long; links in a circle
            return None

    def _unknown(self, text: str) -> str:
        if not self.paths:
            return "not base64 and no data URL; files of this machine aren't read"
        where = "where the model runs" if self.folder is None else "in the folder of images"
        return f"no image at {text[:200]!r} {where}, and it isn't base64"


def _decode_base64(text: str) -> bytes:
    """Decode base64, with or without line breaks, in either alphabet.

    Raises:
        ValueError: it isn't base64.
    """
    plain = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    if len(plain) < _SHORTEST:
        raise ValueError("not base64")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
