"""NLTK's WordNet reader without what scores don't need.

A class of NLTK's is its base, so importing this imports NLTK: do it where a score needs it.
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

from nltk.corpus.reader.wordnet import ADJ, ADJ_SAT, Synset, WordNetCorpusReader
from nltk.data import FileSystemPathPointer


class Dictionary(WordNetCorpusReader):  # type: ignore[misc]  # NLTK has no types
    """English WordNet: the same synsets and similarities, ready in a fraction of the time.

    The stock reader maps the version onto itself through the index of senses at start, for other
    languages; takes an index line apart token by token; looks its version up in a file for every
    similarity, and walks up to the root again for it; and decodes files in Python so as to seek in
    any encoding.
    """

    def __init__(self, root: Any) -> None:
        self.version: str | None = None
        self.above = cache(distances)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that other languages aren't available
            super().__init__(root, None)

    def map_wn(self, version: str = "wordnet") -> dict[str, str]:
        return {}

    def get_version(self) -> str | None:
        if self.version is None:
            self.version = super().get_version()
        return self.version

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
                    places = self._lemma_pos_offset_map[lemma]
                    places[pos] = offsets
                    if pos == ADJ:
                        places[ADJ_SAT] = [o for o in offsets if o in self.satellite_offsets]

    def wup(self, a: Synset, b: Synset) -> float | None:
        """NLTK's `a.wup_similarity(b)`, each synset's way to the root walked once.

        2 depth(s) / (depth(s) + distance(a, s) + depth(s) + distance(b, s)) with s the common
        hypernym of greatest depth; None if they have none. Only nouns have a common root; for the
        others one is imagined.
        """
        rooted = a._needs_root() or b._needs_root()
        common = [s for s in self.above(a) if s in self.above(b)]
        depths = {s: s.min_depth() for s in common} | ({None: 0} if rooted else {})
        if not depths:
            return None
        deepest = max(depths.values())
        lowest = [s for s, depth in depths.items() if depth == deepest]
        # NLTK takes the first by name, and its imagined root is called "*ROOT*".
        shared = a if a in lowest else min(lowest, key=lambda s: s.name() if s else "*ROOT*")
        depth = shared.max_depth() + 1 if shared else 1
        length = 2 * depth + self.steps(a, shared, rooted) + self.steps(b, shared, rooted)
        return 2 * depth / length

    def steps(self, a: Synset, upper: Synset | None, rooted: bool) -> int:
        """Edges of the shortest way from a synset to one above it; None is the imagined root."""
        own = self.above(a)
        if upper is None:
            return max(own.values()) + 1
        if a == upper:
            return 0
        other = self.above(upper)
        ways = [own[s] + far for s, far in other.items() if s in own]
        if rooted:
            ways.append(max(own.values()) + max(other.values()) + 2)
        return min(ways)

    def open(self, file: str) -> Any:
        if isinstance(self.root, FileSystemPathPointer):
            # WordNet's offsets are bytes: in this encoding a character is one.
            return Path(self.root.path, file).open(encoding="latin-1")
        return super().open(file)  # inside a zip


def distances(synset: Synset) -> dict[Synset, int]:
    """A synset and all above it, with the number of edges of the shortest way there."""
    found: dict[Synset, int] = {}
    level, steps = [synset], 0
    while level:
        found |= dict.fromkeys((s for s in level if s not in found), steps)
        upper = [h for s in level for h in (*s.hypernyms(), *s.instance_hypernyms())]
        level, steps = [h for h in dict.fromkeys(upper) if h not in found], steps + 1
    return found
