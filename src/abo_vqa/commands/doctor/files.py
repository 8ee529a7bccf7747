"""Checks of files: settings, the commit, archives against their pinned hashes, WordNet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from abo_vqa.commands.doctor.findings import Checkout, Finding, ok, problem, warning
from abo_vqa.core.circularity import circularity_warnings
from abo_vqa.core.credits import credit_warning
from abo_vqa.core.paths import SAMPLE_DATA
from abo_vqa.core.remote_pin import PIN_NAME, read_pin
from abo_vqa.core.tracking.origin import SOURCES, git
from abo_vqa.core.units import format_bytes
from abo_vqa.data.archive import IMAGES_TAR, LISTINGS_TAR, open_archive

_BACK = "`dvc checkout --force {}` restores the pinned files; `dvc commit` pins the current ones."


def settings(case: Checkout) -> Iterator[Finding]:
    """Check params.yaml and the profile.

    Args:
        case: the checkout.
    """
    if case.config is None:
        head, *problems = case.fault.splitlines() or [""]
        for text in problems or [head]:
            yield problem("settings", text, "")
    else:
        yield ok("settings", f"params.yaml, profile {case.config.profile}")
        if borrowed := credit_warning(case.config):
            yield warning("credit", borrowed, "See docs/data.md, A catalogue of your own.")
        for text in circularity_warnings(case.config):
            yield warning(
                "scored verifiers",
                text.removeprefix("warning: "),
                "See docs/generation.md, A second opinion.",
            )


def commit(_case: Checkout) -> Iterator[Finding]:
    """Report the commit, and whether the sources differ from it."""
    head = git("rev-parse", "HEAD")
    if not head:
        yield warning(
            "git",
            "no commit: git isn't installed, or refuses to work in this folder",
            "MLflow's runs are recorded without a commit, and `dvc exp` needs one.",
        )
        return
    changed = (git("status", "--porcelain", "--", *SOURCES) or "").splitlines()
    count = f"{len(changed)} file(s) differ from it" if changed else "unchanged"
    yield ok("git", f"commit {head[:12]}, sources (src, conf, dvc.yaml, the lock) {count}")


def archives(case: Checkout) -> Iterator[Finding]:
    """Check that both archives of the profile are there, whole, and the pinned ones.

    Args:
        case: the checkout.
    """
    raw = case.settings.data.raw
    present = [raw / name for name in (LISTINGS_TAR, IMAGES_TAR) if (raw / name).is_file()]
    if not raw.is_dir() or not any(raw.iterdir()):
        yield problem("archives", f"none in {raw}", _source_of_archives(case, raw))
        return
    if (pin := read_pin(raw)) is not None:
        objects = pin.objects.items()
        sizes = ", ".join(f"{name} {format_bytes(state.size)}" for name, state in objects)
        place = f"{pin.url}, pinned in {raw / PIN_NAME}"
    else:
        sizes = ", ".join(f"{p.name} {format_bytes(p.stat().st_size)}" for p in present)
        place = str(raw)
    with open_archive(raw) as archive:  # what is cut off or missing is said here
        next(archive.listings())
        archive.image_table()
        count = len(archive.image_paths())
    yield ok("archives", f"{place}: {sizes or 'unpacked'}; {count:,} images")
    yield agreement("pinned", case, raw)


def _source_of_archives(case: Checkout, raw: Path) -> str:
    """Return where the archives of a profile come from."""
    if case.settings.data.url is not None:
        return f"`abo-vqa fetch --profile {case.settings.profile}` pins those on object storage."
    if case.real:
        return "`make abo` brings them."
    if raw == SAMPLE_DATA or pinned(case.root, raw) is not None:
        return f"`dvc pull {raw}` brings them."
    return f"Put your catalogue into {raw}: docs/data.md, A catalogue of your own."


def agreement(name: str, case: Checkout, path: Path) -> Finding:
    """Check that a folder is what its .dvc file pins; DVC hashes it unless nothing has changed.

    Args:
        name: the check's name.
        case: the checkout.
        path: the folder.
    """
    out = pinned(case.root, path)
    if out is None:
        return warning(
            name, f"no .dvc file pins {path}", f"`dvc add {path}` pins it, for comparable results."
        )
    pin = f"{out.stage.relpath} ({str(out.hash_info.value)[:12]})"
    status = next(iter(out.workspace_status().values()), "")
    if not status:
        return ok(name, f"{path} is what {pin} pins")
    if not out.meta.nfiles:
        return warning(
            name, f"{pin} pins no files yet", f"`dvc commit --force {out.stage.relpath}` pins them."
        )
    return warning(name, f"{path} isn't what {pin} pins: {status}", _BACK.format(path))


def pinned(root: Path, path: Path, within: bool = False) -> Any:
    """Return DVC's output for a path, None if it pins none.

    Args:
        root: the checkout.
        path: the path.
        within: accept an output that the path is a part of.
    """
    from dvc.exceptions import OutputNotFoundError
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        try:
            return repo.find_outs_by_path(str(root / path), strict=not within)[0]
        except OutputNotFoundError:
            return None


def wordnet(_case: Checkout) -> Iterator[Finding]:
    """Check that WordNet is here, which METEOR, WUP and the comparison of answers need."""
    from abo_vqa.evaluation.wordnet import ARCHIVE, WORDNET_REMEDY, find_wordnet, shipped_wordnet

    if place := find_wordnet():
        yield ok("wordnet", str(getattr(place, "path", place)))
    elif archive := shipped_wordnet():
        yield ok("wordnet", f"{archive}, unpacked by the first command that needs it")
    else:
        lacking = f"neither in NLTK's folders nor as {ARCHIVE}; METEOR and WUP need it"
        yield warning("wordnet", lacking, WORDNET_REMEDY)
