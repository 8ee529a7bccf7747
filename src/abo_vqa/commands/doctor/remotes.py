"""Checks of DVC's remotes: do they answer, may we write, do they have what dvc.lock names?"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from abo_vqa.commands.doctor.findings import Checkout, Finding, ok, problem, warning
from abo_vqa.commands.doctor.servers import TIMEOUT_S, call_with_timeout
from abo_vqa.core.errors import first_line

if TYPE_CHECKING:
    from dvc.repo import Repo

COMPARE_S = 60.0  # for the list of a remote's files
_EXTRAS = {"s3": "Run `make setup EXTRAS=s3`."}
_DENIED = ("accessdenied", "forbidden", "credentials", "signature", "accesskey")
_DENIED_STATUS = re.compile(r"(?<![\w.:/-])40[13](?![\w.:/-])")  # alone: not of a port or a name


def remotes(case: Checkout) -> Iterator[Finding]:
    """Check each of DVC's remotes.

    A small file is written into the default one, where `dvc push` writes, and removed.

    Args:
        case: the checkout.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        dvc = Repo(str(case.root))
    except NotDvcRepoError:
        yield problem("remotes", f"{case.root} isn't a DVC repository", "Run it in a clone.")
        return
    with dvc as repo:
        configured = {name: dict(options) for name, options in repo.config["remote"].items()}
        default = repo.config["core"].get("remote", "")
        for name, options in configured.items():
            yield from _remote(repo, name, options, name == default)
    if not default:
        yield ok("remote", "no default: `dvc push` needs one (`dvc remote add -d NAME URL`)")
    elif default not in configured:
        advice = f"`dvc remote add -d {default} URL`, or `dvc remote default` another."
        yield problem("remote", f"the default is {default}, which isn't configured", advice)


def _remote(repo: Repo, name: str, options: Mapping[str, Any], default: bool) -> Iterator[Finding]:
    """Check a remote: its protocol, its address, what may be done there, its files."""
    url = str(options["url"])
    called = f"remote {name}"
    message = f"{url}{' (the default)' if default else ''}"
    scheme = urlsplit(url).scheme
    local = scheme in ("", "file", "local")
    if local and not Path(url.removeprefix("file://")).is_dir():
        yield warning(called, f"{message}: there is no such folder", "Make it, or mount its disk.")
        return
    try:
        done = call_with_timeout(TIMEOUT_S, lambda: _try(repo, name, default))
    except ImportError as error:
        advice = _EXTRAS.get(scheme, "Install that into .venv.")
        yield warning(called, f"{message}: {first_line(error)}", advice)
        return
    except Exception as error:  # of some cloud's library, of DVC about the settings, of sockets
        yield _refused(called, message, error, default)
        return
    yield ok(called, f"{message}, {done}")
    yield from _files(repo, name, default)


def _try(repo: Repo, name: str, write: bool) -> str:
    """Read a remote's folder, or write a file there; return what could be done."""
    remote = repo.cloud.get_remote(name)
    filesystem, folder = remote.fs, remote.path
    if not write:
        if filesystem.exists(folder):
            return "answers"
        bucket = folder.partition("/")[0]
        if filesystem.protocol in ("s3", "gs", "azure") and not filesystem.exists(bucket):
            raise FileNotFoundError(f"there is no bucket {bucket}")
        return "answers, and has nothing yet"
    file = filesystem.join(folder, f".abo-vqa-doctor-{uuid.uuid4().hex}")
    filesystem.pipe_file(file, b"Written by `abo-vqa doctor`, which removes it at once.\n")
    filesystem.rm_file(file)
    return "can be written"


def _refused(called: str, message: str, error: Exception, default: bool) -> Finding:
    """Return the finding about a remote that doesn't do what is asked of it."""
    detail = first_line(error)
    text = f"{type(error).__name__} {error}"
    signs = text.replace(" ", "").lower()
    denied = _DENIED_STATUS.search(text) or any(sign in signs for sign in _DENIED)
    if denied or isinstance(error, PermissionError):
        advice = (
            "Check the credentials: of S3, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "`dvc remote modify --local`, and what they may do with the bucket."
        )
    elif isinstance(error, FileNotFoundError):
        advice = "Make the bucket or folder, or correct the address (`dvc remote modify`)."
    else:
        advice = (
            "Check its address and the network: `dvc remote modify NAME url …` (endpointurl for an "
            "S3-compatible server)."
        )
    what = "can't be written" if default else "can't be read"
    state = problem if default else warning
    return state(called, f"{message} {what}: {detail}", advice)


def _files(repo: Repo, name: str, default: bool) -> Iterator[Finding]:
    """Compare a remote with the files that dvc.lock and the .dvc files name, if any are its own."""
    called = f"remote {name}"
    try:
        there, elsewhere, lost = call_with_timeout(COMPARE_S, lambda: _compare(repo, name, default))
    except Exception as error:  # see `_remote`
        advice = f"`dvc status --cloud --remote {name}` may say more."
        yield warning(called, f"its files can't be compared: {first_line(error)}", advice)
        return
    total = there + elsewhere + lost
    numbers = {"files": float(total), "missing": float(elsewhere + lost), "lost": float(lost)}
    named = f"{total:,} files that dvc.lock and the .dvc files name"
    if not total:
        return
    if not elsewhere + lost:
        yield ok(called, f"has all {named}", numbers)
        return
    message = f"lacks {elsewhere + lost:,} of the {named}"
    if lost:
        message += f"; {lost:,} of them aren't in this checkout's cache either"
        advice = "`dvc repro` makes them again, or `dvc push` in the checkout that has them."
    else:
        advice = f"`dvc push --remote {name}`: a clone can't pull them yet."
    yield warning(called, message, advice, numbers)


def _compare(repo: Repo, name: str, default: bool) -> tuple[int, int, int]:
    """Count a remote's files: there, only in the cache, in neither.

    Each is looked for. `dvc status --cloud` asks for a folder's list only, and takes for granted
    that the files of that list, which it pushed earlier, are still there.
    """
    from dvc_data.hashfile.status import compare_status

    remote = repo.cloud.get_remote(name)
    there = elsewhere = lost = 0
    for odb, objects in repo.used_objs(force=True, push=default).items():
        # A file may name its remote; all others belong to the default one.
        if not objects or (default if odb is None else odb.path == remote.odb.path) is False:
            continue
        status = compare_status(repo.cache.local, odb or remote.odb, objects)
        there += len(status.ok) + len(status.deleted)
        elsewhere += len(status.new)
        lost += len(status.missing)
    return there, elsewhere, lost
