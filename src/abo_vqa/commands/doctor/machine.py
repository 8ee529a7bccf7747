"""Checks of the machine: Python, libraries, processor, memory, disk."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from abo_vqa.commands.doctor.findings import Checkout, Finding, ok, problem, warning
from abo_vqa.core import interpreter
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.core.memory import available_memory
from abo_vqa.core.paths import embeddings_of
from abo_vqa.core.processes import cores
from abo_vqa.core.system_errors import nearest_existing
from abo_vqa.core.tracking.origin import LIBRARIES
from abo_vqa.core.units import GB
from abo_vqa.core.vector_files import vector_files
from abo_vqa.data.archive import open_archive
from abo_vqa.models.embeddings.files import SHARD_BYTES, UPLOADED_AT_A_TIME
from abo_vqa.models.hub import is_repository

_LOCK = Path("requirements.lock")
_ENOUGH = {False: 1.5 * GB, True: 6 * GB}  # bytes of memory: the sample's stages, the real ones
_ROOM = 0.5 * GB  # of disk, for the sample's outputs and a few experiments
# The real archives (conf/profiles/abo.lock.json has the exact sizes once they are fetched), and the
# images that curation leaves of them with the study's cap.
_ARCHIVES, PICTURES = 3.1 * GB, 14_798
# BLIP-base's vision output of an image: 24 x 24 patches and the class token, 768 wide.
_VALUES = 577 * 768
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_RELINK = "`dvc config --local cache.type hardlink,copy` (docs/real-abo.md) stores them once"


def python(_case: Checkout) -> Iterator[Finding]:
    """Report the interpreter and the system."""
    message = f"{platform.python_version()} ({sys.executable}), {platform.platform()}"
    yield ok("python", message)


def libraries(case: Checkout) -> Iterator[Finding]:
    """Compare what is installed with what is needed and what is tested.

    Args:
        case: the checkout.
    """
    if missing := interpreter.missing_packages():
        yield problem("packages", f"not installed: {', '.join(missing)}", interpreter.REMEDY)
    here = {name: version for name in LIBRARIES if (version := installed(name))}
    message = ", ".join(f"{name} {version}" for name, version in here.items())
    tested = _locked_versions(case.root / _LOCK)
    # What stands behind "+" is the build, which another card may need.
    other = [
        f"{name} {tested[name]}"
        for name, version in here.items()
        if name in tested and version.partition("+")[0] != tested[name]
    ]
    if other:
        advice = f"Tested with {', '.join(other)}; `make setup` installs these."
        yield warning("libraries", message, advice)
    else:
        yield ok("libraries", message)


def installed(name: str) -> str:
    """Return a package's version, "" if it isn't installed.

    Args:
        name: the package.
    """
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _locked_versions(file: Path) -> dict[str, str]:
    """Return the versions that a lock file pins for this Python and system."""
    from packaging.requirements import InvalidRequirement, Requirement

    pins: dict[str, str] = {}
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for text in lines:
        with suppress(InvalidRequirement):  # comments
            line = Requirement(text)
            if line.marker is None or line.marker.evaluate():
                pins[line.name] = str(line.specifier).removeprefix("==")
    return pins


def processor(case: Checkout) -> Iterator[Finding]:
    """Report the cores that may be used, and the threads that are.

    Args:
        case: the checkout.
    """
    threads = f", threads: {case.config.threads}" if case.config else ""
    yield ok("processor", f"{cores()} core(s), {platform.machine()}{threads}")


def memory(case: Checkout) -> Iterator[Finding]:
    """Check the memory, within a container's limit.

    Args:
        case: the checkout.
    """
    import psutil

    total, free = psutil.virtual_memory().total, available_memory()
    message = f"{free / GB:.1f} GB free for a process, the machine has {total / GB:.1f} GB"
    numbers = {"free_bytes": float(free), "total_bytes": float(total)}
    if case.config is None or free >= _ENOUGH[case.real]:
        yield ok("memory", message, numbers)
        return
    need = f"{_ENOUGH[case.real] / GB:.1f} GB"
    advice = f"Stages of this profile take up to {need}: close other programs, or raise the limit."
    yield warning("memory", message, advice, numbers)


def disk(case: Checkout) -> Iterator[Finding]:
    """Compare the free disk space with what this profile still needs.

    Args:
        case: the checkout.
    """
    free = shutil.disk_usage(case.root).free
    what, needed = need(case)
    message = f"{free / GB:.1f} GB free in the checkout; still needed: {what}"
    numbers = {"free_bytes": float(free), "needed_bytes": needed}
    if needed <= free:
        yield ok("disk", message, numbers)
    else:
        advice = f"Make {(needed - free) / GB:.0f} GB of room."
        yield problem("disk", message, f"{advice} {_RELINK}." if case.real else advice, numbers)


def need(case: Checkout) -> tuple[str, float]:
    """Estimate what a profile will still write into the checkout, in words and in bytes.

    Args:
        case: the checkout.
    """
    config = case.settings
    if not case.real and not is_repository(config.models.blip.path):
        return f"about {_ROOM / GB:.1f} GB", _ROOM
    copies = 1 if stored_once(case.root) else 2
    here = _images_here(case)
    local = config.data.url is None
    archives = _ARCHIVES if here is None and case.real and local else 0.0
    # Curation with the study's cap leaves few of the study's images; of others it may leave all.
    images = min(here, PICTURES) if here and config.data.study else here or PICTURES
    stored = sum(f.stat().st_size for f in vector_files(case.root / embeddings_of("blip")))
    expected = float(images * _VALUES * _BYTES[config.embed.dtype])
    if config.embed.store is not None:
        expected = min(expected, float(UPLOADED_AT_A_TIME * SHARD_BYTES))
    # The files may be another profile's, which are replaced by those of the expected size.
    outputs = max(0.0, expected - stored)
    total = copies * (archives + outputs) + _ROOM
    parts = [
        f"archives {archives / GB:.1f} GB",
        f"vision outputs {outputs / GB:.1f} GB ({config.embed.dtype}) of {images:,} images",
    ]
    twice = ", twice, since DVC's cache keeps copies on this file system" if copies > 1 else ""
    return f"{total / GB:.1f} GB ({' + '.join(parts)}{twice}; the rest {_ROOM / GB:.1f} GB)", total


def _images_here(case: Checkout) -> int | None:
    """Count the images of the profile's archives, packed or not; None if they aren't here."""
    try:
        with open_archive(case.root / case.settings.data.raw) as archive:
            return len(archive.image_paths())
    except (UserError, RetryLaterError):  # said by `files.archives`
        return None


def stored_once(root: Path) -> bool:
    """Tell whether DVC's cache and the workspace share their bytes.

    Args:
        root: the checkout.
    """
    from dvc.repo import Repo
    from dvc_objects.fs.generic import test_links

    with Repo(str(root)) as repo:
        cache = repo.cache.local
        place = nearest_existing(Path(cache.path))
        usable = test_links(cache.cache_types, cache.fs, str(place), repo.fs, repo.root_dir)
    return bool(usable) and usable[0] != "copy"
