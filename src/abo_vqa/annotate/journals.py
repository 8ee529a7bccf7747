"""Where the journals of replies are, and the settings that tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.annotate.prompt import settings_record
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.scratch import scratch
from abo_vqa.data.pairs import REPLY_FORMAT
from abo_vqa.models.registry import local_annotator
from abo_vqa.remote.history import load_history
from abo_vqa.remote.journal import LIMIT

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.remote.journal import JournalEntry

_VENDORS = ("thinking", "safety", "schema")  # have no effect on a local model


def journal_settings(config: Config) -> dict[str, Any]:
    """Return what replies depend on, and nothing else: it identifies the journals.

    The code isn't part of it, on purpose: replies cost money or hours of a GPU, and a change of the
    code must not make them be paid for again. What the code makes of them is decided whenever they
    are read: pairs are judged by the quality filter's present rules.

    Args:
        config: the run's configuration. Of a local model also the weights and the number format
            count, the seed, by which its tokens are drawn, and the output limit, which its prompts
            have to leave room for.
    """
    record = settings_record(config.generate)
    model = local_annotator(config)
    if not model:
        return record
    kept = {name: value for name, value in record.items() if name not in _VENDORS}
    own = {"model": model, "seed": config.seed, "format": REPLY_FORMAT}
    return {**kept, **own, LIMIT: config.generate.max_output_tokens}


def request_limit(config: Config) -> int:
    """Return what `AnnotationJournal` and `load_history` take as the limit."""
    return 0 if local_annotator(config) else config.generate.max_output_tokens


def load_replies(config: Config) -> list[JournalEntry]:
    """Return what all journals hold that count under a configuration; see `load_history`."""
    record = journal_settings(config)
    return load_history(journal_folder(record), record, request_limit(config))


def journal_folder(record: Mapping[str, Any]) -> Path:
    """Return the folder of the journals with replies under some settings.

    Args:
        record: the result of `journal_settings`.
    """
    return scratch("generate", fingerprint(record))


def replies_per_image(entries: Sequence[JournalEntry]) -> float:
    """Return how many replies an image has taken so far; 1 while there are none."""
    answered = [entry for entry in entries if not entry.problem]
    images = len({(entry.image_path, entry.key) for entry in answered})
    return len(answered) / images if images else 1.0
