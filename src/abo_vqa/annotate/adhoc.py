"""`abo-vqa generate` with options: estimates, shares of the work, pages for people."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.annotate import inputs, review
from abo_vqa.annotate.gate import Gate
from abo_vqa.annotate.prompt import instruction, settings_record
from abo_vqa.annotate.remote import (
    Exceptions,
    annotate,
    annotators,
    journal_folder,
    known_entries,
    parse_shard,
)
from abo_vqa.annotate.tasks import Task, in_shard, make_tasks, picture, request_for
from abo_vqa.config import load_config
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.core.files import atomic_write
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.paths import BALANCED, VQA
from abo_vqa.core.summary import no_log
from abo_vqa.data.archive import open_archive
from abo_vqa.data.pairs import Product
from abo_vqa.remote.budget import Estimator, spent, usd
from abo_vqa.remote.contract import Request, Usage
from abo_vqa.remote.journal import Entry, Journal, by_image, journals, read_journal
from abo_vqa.remote.keys import api_keys

if TYPE_CHECKING:
    from abo_vqa.config import Config

_OUTPUT_TOKENS = 30  # a pair as JSON, before any reply has been seen
_COUNTED = 5  # images whose tokens the vendor counts


def adhoc(args: argparse.Namespace) -> int:
    """Do what the options say; see `command.arguments`."""
    config = load_config()
    if args.review:
        from abo_vqa.annotate.review import write_page

        shown = write_page(VQA, config, args.sample or review.PAGE_PAIRS, args.review)
        print(f"{args.review}: {shown:,} pairs to check. Save its CSV, then set generate.review.")
        return 0
    if config.generate.annotator not in ("gemini", "gemini-legacy"):
        raise UserError(
            f"generate.annotator is {config.generate.annotator!r}: it costs nothing and needs no "
            "shares. --dry-run, --shard, --merge, --retry-days, --retry-refused and "
            "--drop-failing are for gemini."
        )
    products, gate = inputs.read_products(), inputs.make_gate(config)
    if args.merge:
        return merge(config, products, gate, args.merge)
    shard = parse_shard(args.shard) if args.shard else None
    mine = [product for product in products if in_shard(product["image_path"], shard)]
    if args.dry_run:
        print(_estimate(config, mine, gate, count=args.count_tokens))
        return 0
    exceptions = Exceptions(args.retry_days, args.retry_refused, args.drop_failing)
    work = annotate(config, products, gate, no_log, shard, exceptions)
    done = sum(task.complete(gate) for task in work.tasks)
    print(f"{done:,} of {len(work.tasks):,} images have their pairs; {work.cost:.4f} USD.")
    if shard:
        print(f"Send {work.journal} to whoever merges: abo-vqa generate --merge JOURNALS")
    else:
        print("`dvc repro generate` writes the table.")
    return 0


def _estimate(config: Config, products: Sequence[Product], gate: Gate, *, count: bool) -> str:
    """What is left to ask, and what it takes in requests, tokens, money and hours."""
    settings = config.generate
    entries = known_entries(journal_folder(settings))
    tasks = make_tasks(products, entries, gate, config)
    left = [task for task in tasks if task.left(gate, settings.attempts)]
    answered = len({(entry.image, entry.key) for entry in entries if not entry.problem})
    replies = sum(not entry.problem for entry in entries) / answered if answered else 1.0
    requests = -(-int(len(left) * replies * 1000) // 1000)
    per_request, source = _tokens_per_request(config, left, entries, gate, count=count)
    total = Usage(requests * per_request.input, requests * per_request.output)
    share = settings.batch_price if settings.batch else 1.0
    keys = _number_of_keys()
    minutes = max(requests / settings.requests_per_minute, total.input / settings.tokens_per_minute)
    days = -(-requests // (keys * settings.requests_per_day))
    hours = minutes / keys / 60
    lines = [
        f"images left        {len(left):,} of {len(products):,}",
        f"requests           {requests:,} ({replies:.2f} an image)",
        f"tokens             {total.input:,} in, {total.output:,} out ({source})",
        f"price              {usd(total, settings, share):.2f} USD"
        + (" (batch mode)" if settings.batch else ""),
        f"spent so far       {spent(entries, settings):.4f} USD",
    ]
    if settings.batch:
        lines.append("time               up to a day a round, by the vendor's word")
    else:
        lines.append(f"time               {hours:.2f} hours at the quota of {keys} key(s)")
        if days > 1:
            lines.append(f"                   over {days:,} days: the daily quota binds")
    if settings.budget_usd is not None:
        lines.append(f"budget             {settings.budget_usd:g} USD")
    return "\n".join(lines)


def _number_of_keys() -> int:
    try:
        return len(api_keys())
    except UserError:
        return 1


def _tokens_per_request(
    config: Config, left: Sequence[Task], entries: Sequence[Entry], gate: Gate, *, count: bool
) -> tuple[Usage, str]:
    """Tokens of a typical request, and where the number is from."""
    settings = config.generate
    paid = [entry.usage for entry in entries if entry.usage.input]
    output = _OUTPUT_TOKENS * settings.questions
    if paid:
        output = round(sum(usage.output for usage in paid) / len(paid))
    if count and left:
        found = _vendor_counts(config, left[:_COUNTED], gate)
        return Usage(round(sum(found) / len(found)), output), "input counted by the vendor"
    if paid:
        mean = round(sum(usage.input for usage in paid) / len(paid))
        return Usage(mean, output), f"as in {len(paid):,} replies"
    system = instruction(settings.prompt, settings.questions, settings.allow_brands)
    estimator = Estimator(settings.image_size)
    sizes = [estimator.tokens(request_for(task, system, b"", gate)) for task in left[:1000]]
    return Usage(round(sum(sizes) / max(1, len(sizes))), output), "estimated"


def _vendor_counts(config: Config, tasks: Sequence[Task], gate: Gate) -> list[int]:
    """Input tokens of some requests by countTokens, which is free."""
    settings = config.generate
    system = instruction(settings.prompt, settings.questions, settings.allow_brands)
    with open_archive(config.data.raw) as archive, annotators(settings) as made:
        _, client = made[0]
        requests: list[Request] = [
            request_for(task, system, picture(archive, task.path, settings.image_size), gate)
            for task in tasks
        ]
        return [client.count_tokens(request) for request in requests]


def merge(config: Config, products: Sequence[Product], gate: Gate, files: Sequence[Path]) -> int:
    """Take over the journals of shards: the answers count as if this checkout had asked.

    Raises:
        UserError: a journal was written under other settings.
        ComeBackLater: some images are still open.
    """
    settings = config.generate
    folder, wanted = journal_folder(settings), fingerprint(settings_record(settings))
    for path in files:
        theirs = read_journal(path).header.get("settings", {})
        if fingerprint(theirs) != wanted:
            raise UserError(f"{path} was made with other settings: {differences(theirs, config)}.")
    # Nobody may be writing into the folder meanwhile.
    with Journal(folder / "main.jsonl", settings_record(settings)):
        for path in files:
            if path.resolve().parent != folder.resolve():
                _take_over(path, folder)
        entries = known_entries(folder)
        twice = overlap(folder, gate)
    tasks = make_tasks(products, entries, gate, config)
    unknown = {entry.image for entry in entries} - {task.path for task in tasks}
    left = [task for task in tasks if task.left(gate, settings.attempts)]
    print(f"{len(files)} journals; {len(tasks) - len(left):,} of {len(tasks):,} images are done")
    if twice:
        print(f"overlap: {len(twice):,} images were paid for twice, e.g. {twice[0]}; one counts")
    if unknown:
        print(f"{len(unknown):,} images aren't in {BALANCED}; they are left out")
    if left:
        raise RetryLaterError(
            f"gap: {len(left):,} images are still open, e.g. {left[0].path}. Merge the missing "
            "shards, or let `dvc repro generate` ask for them."
        )
    print("No gaps. `dvc repro generate` writes the table.")
    return 0


def _take_over(path: Path, folder: Path) -> None:
    """Copy a journal into the folder; a longer copy of the same one replaces a shorter one."""
    data = path.read_bytes()
    contents = read_journal(path)
    if contents.broken:
        print(f"{path}: {contents.broken:,} damaged line(s) skipped")
    shard = contents.header.get("shard")
    whole, digest = data[: contents.whole], fingerprint(data.hex())
    names = ["-".join(map(str, shard))] if shard else []
    for name in [*names, digest]:
        target = folder / f"merged-{name}.jsonl"
        old = target.read_bytes() if target.is_file() else b""
        if old.startswith(whole):
            return  # nothing new
        if whole.startswith(old):
            with atomic_write(target) as temporary:
                temporary.write_bytes(whole)
            return


def overlap(folder: Path, gate: Gate) -> list[str]:
    """Images that have all their pairs in more than one journal."""
    complete: Counter[str] = Counter()
    for path in journals(folder):
        for (image, _), found in by_image(read_journal(path).entries).items():
            complete[image] += sum(len(entry.pairs) for entry in found) >= gate.questions
    return sorted(image for image, n in complete.items() if n > 1)


def differences(theirs: dict[str, object], config: Config) -> str:
    ours = settings_record(config.generate)
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    return ", ".join(f"generate.{name}" for name in names) or "unknown ones"
