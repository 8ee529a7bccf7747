"""`abo-vqa wordnet`: find or unpack WordNet 3.0 and say where it is."""

from __future__ import annotations

import argparse

from abo_vqa.evaluation.wordnet import ensure_wordnet


def command(_args: argparse.Namespace) -> int:
    """Find or unpack WordNet, and print its folder.

    Returns:
        The exit code.
    """
    print(f"WordNet: {ensure_wordnet()}")
    return 0
