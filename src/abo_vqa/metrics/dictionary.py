"""NLTK's WordNet reader without what scores don't need.

A class of NLTK's is its base, so importing this imports NLTK: do it where a score needs it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from nltk.corpus.reader.wordnet import WordNetCorpusReader
from nltk.data import FileSystemPathPointer


class Dictionary(WordNetCorpusReader):  # type: ignore[misc]  # NLTK has no types
    """English WordNet: the same synsets and similarities, ready in a fraction of the time.

    The stock reader maps the version onto itself through the index of senses at start, for other
    languages; looks its version up in a file for every similarity; and decodes files in Python so
    as to seek in any encoding.
    """

    def __init__(self, root: Any) -> None:
        self.version: str | None = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that other languages aren't available
            super().__init__(root, None)

    def map_wn(self, version: str = "wordnet") -> dict[str, str]:
        return {}

    def get_version(self) -> str | None:
        if self.version is None:
            self.version = super().get_version()
        return self.version

    def open(self, file: str) -> Any:
        if isinstance(self.root, FileSystemPathPointer):
            # WordNet's offsets are bytes: in this encoding a character is one.
            return Path(self.root.path, file).open(encoding="latin-1")
        return super().open(file)  # inside a zip
