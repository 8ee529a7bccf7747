"""Stage `generate`: balanced table + pictures → data/vqa.csv, exactly N pairs an image."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.archive import open_archive
from abo_vqa.errors import UserError
from abo_vqa.generate import corpus
from abo_vqa.generate.gate import Gate
from abo_vqa.generate.given import counted, read_given, unreadable
from abo_vqa.generate.pairs import Pair, Product, Reject
from abo_vqa.generate.review import read_decisions
from abo_vqa.io import read_table, write_results, write_table
from abo_vqa.stage import Log, Summary, execute, no_log

if TYPE_CHECKING:
    from abo_vqa.config import Config

BALANCED = Path("data/balanced.csv")
VQA, REJECTS, COUNTS = Path("data/vqa.csv"), Path("data/rejects.csv"), Path("data/generate.json")
PROVENANCE = ("image_id", "item_id", "product_type", "image_sha1", "phash")
PAGE_PAIRS = 200  # on a review page
NEEDED = ("path", "name", "product_type", "color", "keywords")


@dataclass
class Made:
    """What an annotator made of the products: rows of the set, rejects, images left out.

    Attributes:
        images: how many it was given. dropped: a reason an image.
        flagged: what the gate would have said of rows that a table of one's own has all the same.
        notes: lines for the terminal.
    """

    images: int
    rows: list[dict[str, str]] = field(default_factory=list)
    rejects: list[dict[str, str]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    flagged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)

    def add(self, product: Product, pairs: Iterable[Pair], annotator: str) -> None:
        origin = {name: product.get(name, "") for name in PROVENANCE}
        self.rows += [
            {
                "image_path": product["path"],
                "question": pair.question,
                "answer": pair.answer,
                **origin,
                "question_kind": pair.kind,
                "annotator": annotator,
            }
            for pair in pairs
        ]

    def reject(self, path: str, rejects: Iterable[Reject]) -> None:
        self.rejects += [
            {"image_path": path, "question": r.question, "answer": r.answer, "reason": r.reason}
            for r in rejects
        ]


def offline(config: Config, products: Sequence[Product], gate: Gate) -> Made:
    """Pairs from the catalogue's attributes."""
    from abo_vqa.generate.offline import OfflineAnnotator

    share = 0.5 if config.generate.yes_share is None else config.generate.yes_share
    annotator = OfflineAnnotator(products, share, config.seed)
    with open_archive(config.data.raw) as archive:
        bad = unreadable(archive, [product["path"] for product in products])
    made = Made(len(products))
    for product in products:
        if product["path"] in bad:
            made.dropped.append("unreadable")
            continue
        pairs: list[Pair] = []
        for candidate in annotator.candidates(product):
            accepted, rejects = gate.sift([candidate], product, pairs)
            pairs += accepted
            if len(pairs) == gate.questions:
                break
            # A repeated draw is no fault of the set's.
            made.reject(product["path"], (r for r in rejects if r.reason != "duplicate"))
        if len(pairs) < gate.questions:
            made.dropped.append("too_few_good_pairs")
            continue
        made.add(product, pairs, "offline")
    return made


def given(config: Config, products: Sequence[Product], gate: Gate) -> Made:
    """An existing table, as it is; the gate's findings are only reported."""
    path = config.generate.file
    if path is None:
        raise UserError("generate.annotator is 'file' but generate.file names no table")
    with open_archive(config.data.raw) as archive:
        table = read_given(path, archive, products, PROVENANCE)
    images = len({row["image_path"] for row in table.rows} | table.lost.keys())
    made = Made(images, dropped=list(table.lost.values()), notes=table.notes)
    if table.lost:
        made.notes.append(
            f"warning: {table.lost_rows:,} rows are left out with {len(table.lost):,} pictures"
        )
    known = {product["path"]: product for product in products}
    for row in table.rows:
        image = row["image_path"]
        pair = Pair(row["question"], row["answer"])
        reason = gate.fault(pair, known.get(image, {"path": image}))
        if reason == "review":
            made.reject(image, [Reject(pair.question, pair.answer, reason)])
            continue
        if reason:
            made.flagged.append(reason)
        made.rows.append(row)
    return made


def remote(config: Config, products: Sequence[Product], gate: Gate, log: Log) -> Made:
    """Pairs by a paid model, sorted by question so that the order of replies doesn't show."""
    from abo_vqa.generate.remote import annotate

    work = annotate(config, products, gate, log)
    made = Made(len(products), metrics={"cost_usd": work.cost, **work.tokens})
    for task in work.tasks:
        made.reject(task.path, task.rejects)
        why = task.outcome(gate, config.generate.attempts)
        if why:
            made.dropped.append(why)
            continue
        pairs = sorted(task.pairs, key=lambda pair: (pair.question, pair.answer))
        made.add(task.product, pairs, config.generate.model)
    return made


def read_products() -> list[dict[str, str]]:
    """The balanced table's rows."""
    rows = read_table(BALANCED, NEEDED).to_dict("records")
    return [{str(name): str(value) for name, value in row.items()} for row in rows]


def make_gate(config: Config) -> Gate:
    """The quality gate with people's rejects."""
    settings = config.generate
    rejected = read_decisions(settings.review) if settings.review else frozenset()
    return Gate(settings.questions, settings.allow_brands, rejected)


def run(config: Config, log: Log = no_log) -> Summary:
    """Write data/vqa.csv, data/rejects.csv and data/generate.json."""
    import pandas as pd

    products = read_products()
    gate = make_gate(config)
    if config.generate.annotator == "offline":
        made = offline(config, products, gate)
    elif config.generate.annotator == "file":
        made = given(config, products, gate)
    else:
        made = remote(config, products, gate, log)
    if not made.rows:
        raise UserError(
            f"not one of {len(products):,} images got its {gate.questions} pairs: "
            f"{counted(made.dropped)}. The rejects: {counted([r['reason'] for r in made.rejects])}."
        )
    counts = describe(config, made)
    columns = ["image_path", "question", "answer", "reason"]
    write_table(pd.DataFrame(made.rejects, columns=columns), REJECTS)
    write_results(counts, COUNTS)
    write_table(pd.DataFrame(made.rows), VQA)
    return Summary(
        message="\n".join([*made.notes, headline(counts), *counts["corpus"]["warnings"]]),
        metrics={**flat(counts), **made.metrics},
        datasets={"generated": VQA},
        artifacts=(REJECTS,),
    )


def describe(config: Config, made: Made) -> dict[str, Any]:
    """The content of data/generate.json."""
    settings = config.generate
    return {
        "images": made.images,
        "annotated_images": len({row["image_path"] for row in made.rows}),
        "pairs": len(made.rows),
        "dropped_images": counted(made.dropped),
        "rejected": counted([row["reason"] for row in made.rejects]),
        **({"kept_in_spite_of": counted(made.flagged)} if made.flagged else {}),
        "kinds": counted([row["question_kind"] for row in made.rows]),
        "corpus": corpus.check(made.rows, config.seed, settings.yes_share),
    }


def headline(counts: dict[str, Any]) -> str:
    said = f"{counts['pairs']:,} pairs over {counts['annotated_images']:,} images"
    dropped = ", ".join(f"{n:,} {why}" for why, n in counts["dropped_images"].items())
    blind = counts["corpus"]["answerable_without_picture"].values()
    if dropped:
        said += f"; images left out: {dropped}"
    return said + (f"; {max(blind):.1%} can be told without the picture" if blind else "")


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of nested counts by slashed names, for MLflow."""
    found: dict[str, float] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            found |= flat(item, f"{prefix}{slashless(name)}/")
        elif isinstance(item, (int, float)):
            found[f"{prefix}{slashless(name)}"] = float(item)
    return found


def slashless(name: str) -> str:
    """A name that opens no group of its own in MLflow: yes_no for yes/no."""
    return name.replace("/", "_").replace("(", "").replace(")", "")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Without options: the pipeline's stage, configured by params.yaml. The options prepare or "
        "share a paid generation, or have people check its result."
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="images left, requests, tokens, price, hours"
    )
    parser.add_argument(
        "--count-tokens",
        action="store_true",
        help="with --dry-run: have the vendor count the tokens of five images (free, needs a key)",
    )
    parser.add_argument("--shard", metavar="I/N", help="ask only for the I-th of N parts")
    parser.add_argument(
        "--merge", type=Path, nargs="+", metavar="JOURNAL", help="take over the journals of shards"
    )
    parser.add_argument(
        "--retry-days",
        action="store_true",
        help="try keys again whose daily quota was spent, e.g. because it was raised",
    )
    parser.add_argument(
        "--retry-refused",
        action="store_true",
        help="ask again about images that were refused, failed, or left out by --drop-failing",
    )
    parser.add_argument(
        "--drop-failing",
        action="store_true",
        help="go on however many images fail alike, and leave them out for good",
    )
    parser.add_argument(
        "--review", type=Path, metavar="PAGE", help="write a page for people to check pairs"
    )
    parser.add_argument("--sample", type=int, help=f"pairs on the page ({PAGE_PAIRS})")


def command(args: argparse.Namespace) -> int:
    options = (args.dry_run, args.shard, args.merge, args.review)
    once = (args.retry_days, args.retry_refused, args.drop_failing)
    if args.count_tokens and not args.dry_run:
        raise UserError("--count-tokens belongs to --dry-run.")
    if args.sample is not None and not args.review:
        raise UserError("--sample belongs to --review PAGE.")
    if args.sample is not None and args.sample < 1:
        raise UserError(f"--sample {args.sample}: at least 1.")
    if not any((*options, *once)):
        return execute("generate", run)
    from abo_vqa.generate.adhoc import adhoc

    return adhoc(args)
