"""`abo-vqa wordnet`: find or fetch WordNet 3.0 and say where it is."""

from __future__ import annotations

import argparse

from abo_vqa.evaluation.wordnet import ensure_wordnet


def arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def command(args: argparse.Namespace) -> int:
    print(f"WordNet: {ensure_wordnet()}")
    return 0
