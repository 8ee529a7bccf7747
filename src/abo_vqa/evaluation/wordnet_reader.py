"""NLTK's WordNet reader, opened faster and without repeated work.

The class derives from one of NLTK's, so importing this module imports NLTK.
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import IO

from nltk.corpus.reader.wordnet import ADJ, ADJ_SAT, Synset, WordNetCorpusReader
from nltk.data import FileSystemPathPointer, PathPointer


class WordNetReader(WordNetCorpusReader):  # type: ignore[misc]  # NLTK has no types
    """English WordNet with the same synsets and similarities as NLTK's reader.

    NLTK's reader maps WordNet versions onto each other at start-up, for other languages; parses
    each index line token by token; decodes files in Python so as to seek in any encoding; and for
    every similarity looks up its version in a file, and walks up to the root again.
    """

    def __init__(self, root: PathPointer) -> None:
        """Open a WordNet.

        Args:
            root: NLTK's pointer to its folder or archive, as `wordnet.ensure_wordnet` returns it.
        """
        self._version: str | None = None
        self._hypernym_distances = cache(Synset._shortest_hypernym_paths)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that other languages aren't available
            super().__init__(root, None)

    def map_wn(self, *_versions: str) -> dict[str, str]:
        """Map no versions: only other languages need it."""
        return {}

    def get_version(self) -> str | None:
        """Return WordNet's version, read once."""
        if self._version is None:
            self._version = super().get_version()
        return self._version

    def _load_lemma_pos_offset_map(self) -> None:
        """Read the index: lemma → part of speech → offsets of its synsets (wndb(5WN))."""
        for suffix in self._FILEMAP.values():
            with self.open(f"index.{suffix}") as lines:
                for line in lines:
                    if line[0] == " ":  # the licence
                        continue
                    fields = line.split()
                    lemma, pos, synsets = fields[0], fields[1], int(fields[2])
                    offsets = [int(field) for field in fields[-synsets:]]
                    by_pos = self._lemma_pos_offset_map[lemma]
                    by_pos[pos] = offsets
                    if pos == ADJ:
                        by_pos[ADJ_SAT] = [o for o in offsets if o in self.satellite_offsets]

    def wup_similarity(self, a: Synset, b: Synset) -> float | None:
        """Return NLTK's `a.wup_similarity(b)`, each synset's way to the root walked once.

        2 depth(s) / (2 depth(s) + distance(a, s) + distance(b, s)), with s the common hypernym of
        greatest depth (Wu & Palmer, 1994).

        Args:
            a: a synset of this reader.
            b: another one.

        Returns:
            The similarity, None for synsets without a common hypernym.
        """
        # Only nouns have a common root; for other parts of speech NLTK simulates one.
        simulate = a._needs_root() or b._needs_root()
        subsumers = a.lowest_common_hypernyms(b, simulate_root=simulate, use_min_depth=True)
        if not subsumers:
            return None
        subsumer = a if a in subsumers else subsumers[0]
        depth = subsumer.max_depth() + 1
        above = self._hypernym_distances(subsumer, simulate)
        length = 2 * depth
        for synset in (a, b):
            distances = self._hypernym_distances(synset, simulate)
            length += min(steps + above[s] for s, steps in distances.items() if s in above)
        return float(2 * depth / length)

    def open(self, file: str) -> IO[str]:
        """Open one of WordNet's files."""
        if isinstance(self.root, FileSystemPathPointer):
            # WordNet's offsets are bytes: in this encoding a character is one.
            return Path(self.root.path, file).open(encoding="latin-1")
        stream: IO[str] = super().open(file)  # inside a zip
        return stream
