"""Archives on object storage: how a profile names them, and the file that pins them.

A profile's `data.raw` may be a URL. What DVC's stages depend on stays the folder
`data/raw/<profile>`: it holds `remote.json`, which `abo-vqa fetch` writes, with the URL and the
size and version of both objects. Another version makes the stages stale, as other bytes would.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from abo_vqa.core.config_base import secret_in_setting
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.core.paths import DATA

PIN_NAME = "remote.json"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True)
class ObjectVersion:
    """What tells an object from an earlier or later one of the same name.

    Attributes:
        size: in bytes.
        version: its ETag; where a store has none, its generation or time of change.
    """

    size: int
    version: str


@dataclass(frozen=True)
class RemotePin:
    """Where archives are, and which ones.

    Attributes:
        url: of the folder that holds them.
        objects: name → version.
    """

    url: str
    objects: dict[str, ObjectVersion]

    def save(self, folder: Path) -> Path:
        """Write the file that DVC compares.

        Args:
            folder: `data/raw/<profile>`.

        Returns:
            The file.
        """
        return write_json(asdict(self), folder / PIN_NAME)


def is_url(place: str | Path) -> bool:
    """Whether a place is a URL; one that went through `Path` isn't any more.

    Args:
        place: a folder, a file or a URL.
    """
    return isinstance(place, str) and bool(_URL.match(place))


def url_or_path(text: str) -> str | Path:
    """Return a path, or the URL as it is: `Path` would make "s3:/bucket" of it.

    Args:
        text: what the user wrote.
    """
    return text if is_url(text) else Path(text)


def url_problem(url: str) -> str:
    """Say what is wrong with a URL of archives; "" if nothing is.

    Args:
        url: it may hold secrets, and isn't repeated where it does.
    """
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        return (
            "found a URL with a login in it, which would get into dvc.lock and the cards; give "
            "credentials by the environment (AWS_ACCESS_KEY_ID, …) or the provider's own files"
        )
    if parts.query or parts.fragment:
        return (
            "found a URL with a ? or #; name the folder alone, and give credentials by the "
            "environment"
        )
    return ""


def check_folder_url(url: str) -> str:
    """Check a setting that names a folder on object storage.

    Args:
        url: the setting.

    Raises:
        PydanticCustomError: it holds a login, which would get into records of runs.
        ValueError: it isn't such a URL.
    """
    if problem := url_problem(url):
        raise secret_in_setting(problem)
    if not is_url(url) or not urlsplit(url).netloc:
        raise ValueError("it should be the URL of a folder, such as s3://bucket/prefix")
    return url


def split_raw(data: Any, profile: str) -> Any:
    """Take a URL in `data.raw` apart: the folder of its pin becomes `raw`, the URL `url`.

    Args:
        data: the section `data` of a profile.
        profile: the profile's name.

    Returns:
        The section as `DataConfig` takes it.
    """
    if not isinstance(data, dict) or not is_url(data.get("raw", "")):
        return data
    return {**data, "raw": str(DATA / "raw" / profile), "url": data["raw"].rstrip("/")}


def read_pin(folder: Path) -> RemotePin | None:
    """Read the pin in a folder of archives; None if it holds none.

    Args:
        folder: `data/raw/<profile>`.

    Raises:
        UserError: It isn't what `abo-vqa fetch` writes.
    """
    path = folder / PIN_NAME
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        objects = {
            name: ObjectVersion(int(entry["size"]), str(entry["version"]))
            for name, entry in content["objects"].items()
        }
        return RemotePin(str(content["url"]), objects)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} isn't what `abo-vqa fetch` writes. Delete it, and run "
            f"`abo-vqa fetch --profile {folder.name}`."
        ) from error


def pin_problems(raw: Path, url: str | None, profile: str) -> list[str]:
    """Report a pin that belongs to another URL than the profile's.

    Args:
        raw: the folder of the pin.
        url: the profile's; None if its archives are local.
        profile: the profile's name.

    Returns:
        The problem, if there is one. A pin that isn't there yet is none: `fetch` makes it.
    """
    if url is None:
        return []
    if problem := url_problem(url):
        return [f"data.raw: {problem}"]
    pin = read_pin(raw)
    if pin is None or pin.url == url:
        return []
    return [
        f"data.raw: found {url}, but {raw / PIN_NAME} pins {pin.url}; "
        f"`abo-vqa fetch --profile {profile}` pins the new ones"
    ]
