"""`abo-vqa agreement`: how far people agree about the answers, and how many they find wrong."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from abo_vqa.annotate.reviews import (
    CORRECT,
    KEEP,
    REJECT,
    Reviews,
    Verdict,
    read_reviews,
    review_files,
)
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import GENERATED, REJECTS, VQA
from abo_vqa.core.tables import read_table
from abo_vqa.core.units import format_level
from abo_vqa.data.pairs import PairKey, pair_key
from abo_vqa.evaluation.agreement import (
    AgreementEstimate,
    Labels,
    PairAgreement,
    Resampling,
    krippendorff_alpha,
    pairwise_agreement,
)
from abo_vqa.evaluation.intervals import clustered_wilson_interval
from abo_vqa.reporting.formatting import percent
from abo_vqa.reporting.text_table import align_columns

_RIGHT, _WRONG = "right", "wrong"
_DECISIONS = (KEEP, REJECT, CORRECT)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument(
        "files",
        type=Path,
        nargs="*",
        metavar="CSV",
        help="what people saved from review pages, or folders of it (default: generate.review)",
    )


def command(args: argparse.Namespace) -> int:
    """Print agreement and the share of wrong answers.

    Args:
        args: the options.

    Returns:
        The exit code.

    Raises:
        UserError: there is nothing to read.
    """
    config = load_config()
    paths = args.files or [path for path in (config.generate.review,) if path]
    reviews = read_reviews(file for path in paths for file in review_files(path))
    if not reviews.judgements:
        raise UserError(
            f"nobody has decided about a pair in {', '.join(map(str, paths)) or 'any file'}. "
            "`abo-vqa generate --review PAGE` writes a page for reviewers."
        )
    settings = config.evaluate
    resampling = Resampling(settings.resamples, settings.confidence, config.seed)
    notes = [*reviews.notes, *reviews.alike(), *_foreign_pairs(reviews)]
    print("\n".join([*_summary(reviews, resampling), *notes]))
    return 0


def _foreign_pairs(reviews: Reviews) -> list[str]:
    """Return a warning if reviewed pairs aren't the set's: they say nothing about its answers.

    The set is what the annotator wrote, with what people and filters have changed or left out.
    """
    tables = [path for path in (GENERATED, REJECTS, VQA) if path.exists()]
    names = ["image_path", "question", "answer"]
    own = {
        pair_key(*row)
        for path in tables
        for row in read_table(path, names)[names].itertuples(index=False)
    }
    foreign = reviews.judgements.keys() - own
    if not tables or not foreign:
        return []
    total = len(reviews.judgements)
    counted = f"{len(foreign):,} of the {total:,} pairs aren't"
    if len(foreign) == total:
        counted = f"none of the {total:,} pairs is"
    return [
        f"warning: {counted} in {' or '.join(map(str, tables))}, so that they say nothing about "
        f"that set's answers ({reviews.describe_sources(foreign)})"
    ]


def _summary(reviews: Reviews, resampling: Resampling) -> list[str]:
    """Return the lines to print."""
    votes = reviews.judgements
    images = len({image for image, _, _ in votes})
    shared = sum(len(judgements) > 1 for judgements in votes.values())
    raters = reviews.raters
    lines = [
        f"{len(votes):,} pairs of {images:,} images, {len(raters)} rater(s): {', '.join(raters)}"
    ]
    if again := len(votes) - len(reviews.first_pairs()):
        lines.append(
            f"{again:,} of these are others with the answers that they were corrected to: what was "
            "decided about them counts for agreement, not as further pairs"
        )
    if len(raters) > 1 and not shared:
        lines.append(
            "note: they have no pair in common, so there is no agreement to measure. "
            "`abo-vqa generate --review PAGE --raters N --overlap SHARE` writes pages that share "
            "pairs."
        )
    elif len(raters) > 1:
        lines += [f"{shared:,} pairs have several raters", "", *_agreement(reviews, resampling)]
    return [*lines, "", *_wrong_share(reviews, resampling.confidence)]


def _agreement(reviews: Reviews, resampling: Resampling) -> list[str]:
    """Return alpha over all raters, kappa and confusion of each two."""
    decisions: Labels = {
        pair: {rater: judgement.decision for rater, judgement in judgements.items()}
        for pair, judgements in reviews.judgements.items()
    }
    verdicts: Labels = {
        pair: {rater: _RIGHT if label == KEEP else _WRONG for rater, label in labels.items()}
        for pair, labels in decisions.items()
    }
    alpha = krippendorff_alpha(verdicts, (_RIGHT, _WRONG), resampling)
    finer = krippendorff_alpha(decisions, _DECISIONS, resampling)
    level = f"{format_level(resampling.confidence)} intervals over images"
    lines = [
        f"Krippendorff's alpha ({level})",
        f"  right or wrong           {_format(alpha)}",
        f"  keep, reject or correct  {_format(finer)}",
    ]
    binary = {
        result.raters: result
        for result in pairwise_agreement(verdicts, (_RIGHT, _WRONG), resampling)
    }
    for result in pairwise_agreement(decisions, _DECISIONS, resampling):
        lines += ["", *_pair_lines(result, binary[result.raters])]
    return lines


def _pair_lines(decisions: PairAgreement, verdicts: PairAgreement) -> list[str]:
    """Return how two raters agree."""
    a, b = decisions.raters
    rows = [
        [f"  {a}: {name}", *map(str, row)]
        for name, row in zip(_DECISIONS, decisions.confusion.tolist(), strict=True)
    ]
    return [
        f"{a} and {b}: {decisions.pairs:,} common pairs, the same decision about "
        f"{_format(decisions.same, share=True)}",
        f"  Cohen's kappa, right or wrong           {_format(verdicts.kappa)}",
        f"  Cohen's kappa, keep, reject or correct  {_format(decisions.kappa)}",
        *align_columns(["", *(f"{b}: {name}" for name in _DECISIONS)], rows),
    ]


def _wrong_share(reviews: Reviews, confidence: float) -> list[str]:
    """Return how many answers are wrong: of the pairs drawn at random, and of suspicious ones.

    A pair counts as it was written, and once (see docs/metrics.md).
    """
    first = reviews.first_pairs()
    verdicts = {pair: verdict for pair, verdict in reviews.verdicts().items() if pair in first}
    suspicious = {pair: verdicts[pair] for pair in verdicts if pair in reviews.suspicious}
    at_random = {pair: verdicts[pair] for pair in verdicts if pair not in reviews.suspicious}
    if not suspicious:
        return [*_wrong_lines(reviews, at_random, "pairs", confidence), _ceiling(at_random)]
    lines = _wrong_lines(reviews, suspicious, "suspicious pairs", confidence)
    if not at_random:
        return [
            *lines,
            "note: that says nothing about the set, whose other answers are less suspicious. "
            "`abo-vqa generate --review PAGE` writes a page of random pairs, which tell how many "
            "answers are wrong.",
        ]
    sample = _wrong_lines(reviews, at_random, "pairs drawn at random", confidence)
    return [*sample, _ceiling(at_random), *lines]


def _wrong_lines(
    reviews: Reviews, verdicts: Mapping[PairKey, Verdict], label: str, confidence: float
) -> list[str]:
    """Return how many answers of some pairs are wrong, by all raters together and by each.

    Args:
        reviews: all of them.
        verdicts: of the pairs that count.
        label: what these are called.
        confidence: of the intervals.
    """
    overall = _share(list(verdicts), [verdict.wrong for verdict in verdicts.values()], confidence)
    split = sum(verdict.wrong == 0.5 for verdict in verdicts.values())
    halves = f"; {split:,} on which they are split evenly count half" if split else ""
    lines = [f"wrong answers: {overall} of {len(verdicts):,} {label}{halves}"]
    raters = sorted(reviews.raters_of(verdicts))
    for rater in raters if len(reviews.raters) > 1 else []:
        own = {pair: reviews.judgements[pair][rater] for pair in verdicts
               if rater in reviews.judgements[pair]}  # fmt: skip
        text = _share(list(own), [float(vote.is_wrong) for vote in own.values()], confidence)
        lines.append(f"  {rater}: {text} of {len(own):,}")
    return lines


def _ceiling(verdicts: Mapping[PairKey, Verdict]) -> str:
    ceiling = 1 - sum(verdict.wrong for verdict in verdicts.values()) / len(verdicts)
    return f"A model that is always right agrees with about {percent(ceiling)} of them."


def _share(pairs: Sequence[PairKey], wrong: Iterable[float], confidence: float) -> str:
    numbers: dict[str, int] = {}
    images = np.array([numbers.setdefault(image, len(numbers)) for image, _, _ in pairs])
    values = np.array(list(wrong), dtype=float)
    interval = clustered_wilson_interval(values, images, confidence)
    return _format(AgreementEstimate(float(values.mean()), interval), share=True)


def _format(estimate: AgreementEstimate, *, share: bool = False) -> str:
    """Return a value with its interval, or why there is none."""
    if estimate.value is None:
        return "not defined: all decisions are the same"
    texts = [
        percent(v) if share else f"{v:.2f}" for v in (estimate.value, *(estimate.interval or ()))
    ]
    return (
        f"{texts[0]} [{texts[1]}, {texts[2]}]" if estimate.interval else f"{texts[0]} [no interval]"
    )
