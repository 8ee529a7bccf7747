"""Merging the journals of shards (`abo-vqa generate --merge`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.annotate.journals import journal_folder, journal_settings, load_replies
from abo_vqa.annotate.quality_filter import QualityFilter
from abo_vqa.annotate.tasks import make_tasks
from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_write
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.log import get_logger
from abo_vqa.data.pairs import Product
from abo_vqa.remote.journal import AnnotationJournal, group_by_image, read_journal
from abo_vqa.remote.journal_files import all_journals, present_settings

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

logger = get_logger(__name__)


@dataclass(frozen=True)
class MergeReport:
    """What the merged journals hold.

    Attributes:
        images: number of images in the balanced table.
        open: images that still lack pairs.
        overlap: images with all their pairs in more than one journal.
        unknown: images in the journals that aren't in the balanced table.
    """

    images: int
    open: list[str]
    overlap: list[str]
    unknown: set[str]


def merge_journals(
    config: Config,
    products: Sequence[Product],
    quality_filter: QualityFilter,
    files: Sequence[Path],
) -> MergeReport:
    """Copy the journals of shards: their replies count as if this checkout had requested them.

    Args:
        config: the run's configuration.
        products: the balanced table's rows.
        quality_filter: judges pairs.
        files: the journals.

    Raises:
        UserError: a journal is missing, isn't one, or was written with other settings.
    """
    ours = journal_settings(config)
    folder = journal_folder(ours)
    for path in files:
        header = read_journal(path).header
        if not header:
            raise UserError(f"{path} isn't a journal of abo-vqa: it is empty.")
        theirs = present_settings(header.get("settings", {}), ours)
        if fingerprint(theirs) != fingerprint(ours):
            raise UserError(f"{path} was made with other settings: {_differences(theirs, ours)}.")
    # Nobody may be writing into the folder meanwhile.
    with AnnotationJournal(folder / "main.jsonl", ours):
        known = {path.resolve() for path in all_journals(folder, ours)}
        for path in files:
            if path.resolve() not in known:
                _copy(path, folder)
        entries = load_replies(config)
        overlap = _overlap(all_journals(folder, ours), quality_filter)
    tasks = make_tasks(products, entries, quality_filter, config)
    unknown = {entry.image_path for entry in entries} - {task.image_path for task in tasks}
    return MergeReport(
        len(tasks), [task.image_path for task in tasks if task.is_open], overlap, unknown
    )


def _copy(path: Path, folder: Path) -> None:
    """Copy a journal into the folder; a longer copy of the same one replaces a shorter one."""
    contents = read_journal(path)
    if contents.broken:
        logger.warning(f"{path}: {contents.broken:,} damaged line(s) skipped")
    data = path.read_bytes()
    shard = contents.header.get("shard")
    complete, digest = data[: contents.size], fingerprint(data.hex())
    names = ["-".join(map(str, shard))] if shard else []
    for name in [*names, digest]:
        target = folder / f"merged-{name}.jsonl"
        existing = target.read_bytes() if target.is_file() else b""
        if existing.startswith(complete):
            return  # nothing new
        if complete.startswith(existing):
            with atomic_write(target) as temporary:
                temporary.write_bytes(complete)
            return


def _overlap(paths: Iterable[Path], quality_filter: QualityFilter) -> list[str]:
    """Return the images that have all their pairs in more than one journal."""
    journals: Counter[str] = Counter()
    for path in paths:
        for (image, _), entries in group_by_image(read_journal(path).entries).items():
            journals[image] += (
                sum(len(entry.pairs) for entry in entries) >= quality_filter.questions
            )
    return sorted(image for image, n in journals.items() if n > 1)


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    settings = [name if name == "seed" else f"generate.{name}" for name in names]
    return ", ".join(settings) or "unknown ones"
