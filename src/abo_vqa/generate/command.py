"""Stage `generate`: balanced table + pictures → data/vqa.csv, exactly N pairs an image."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from abo_vqa.config import Config
from abo_vqa.errors import UserError
from abo_vqa.io import read_table, write_json, write_table
from abo_vqa.stage import Log, Summary, execute, no_log

BALANCED, VQA, COUNTS = Path("data/balanced.csv"), Path("data/vqa.csv"), Path("data/generate.json")
PROVENANCE = ("image_id", "item_id", "product_type", "image_sha1", "phash")


def run(config: Config, log: Log = no_log) -> Summary:
    """Write data/vqa.csv and data/generate.json."""
    import pandas as pd

    from abo_vqa.generate.offline import OfflineAnnotator

    settings = config.generate
    if settings.annotator != "offline":
        raise UserError(
            f"generate.annotator: {settings.annotator!r} isn't available yet; offline is."
        )
    products = read_table(BALANCED, ("path", "name", "product_type", "color")).to_dict("records")
    share = 0.5 if settings.yes_share is None else settings.yes_share
    annotator = OfflineAnnotator(products, settings.questions, share, config.seed)
    rows, short = [], 0
    for product in products:
        pairs = annotator.annotate(product)
        if len(pairs) < settings.questions:
            short += 1
            continue
        origin = {name: product.get(name, "") for name in PROVENANCE}
        rows += [
            {"image_path": product["path"], "question": p.question, "answer": p.answer, **origin,
             "question_kind": p.kind, "annotator": "offline"}
            for p in pairs
        ]  # fmt: skip
    kinds = Counter(row["question_kind"] for row in rows)
    counts = {
        "images": len(products),
        "pairs": len(rows),
        "too_few_pairs": short,
        "kinds": dict(kinds),
    }
    write_table(pd.DataFrame(rows), VQA)
    write_json(counts, COUNTS)
    return Summary(
        message=f"{len(rows):,} pairs over {len(products) - short:,} images",
        metrics={"images": len(products), "pairs": len(rows), "too_few_pairs": short},
        datasets={"generated": VQA},
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """No ad-hoc options yet."""


def command(args: argparse.Namespace) -> int:
    return execute("generate", run)
