"""The figures that docs/real-abo.md derives are those of docs/benchmarks.md, and add up."""

import re

import pytest

from tests.support import ROOT

PAGE = (ROOT / "docs/real-abo.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w@-]+)` \| ([\d.]+) \| ([\d,]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)


def number(text: str) -> float:
    return float(text.replace(",", ""))


@pytest.mark.parametrize(("stage", "rate", "work", "hours"), ROWS)
def test_hours_are_the_work_at_the_measured_rate(stage, rate, work, hours):
    measured = re.search(
        rf"^\| `{stage}` \|.*\| ([\d.]+) \| ([\d.]+) \|$", BENCHMARKS, re.MULTILINE
    )
    assert measured.groups() == (rate, hours)
    # The rate is rounded to two digits, and 0.09 may be 0.094.
    slowest, fastest = number(rate) + 0.005, number(rate) - 0.005
    assert number(work) / slowest / 3600 - 0.05 <= number(hours)
    assert number(hours) <= number(work) / fastest / 3600 + 0.05


def test_there_is_a_row_for_each_stage_that_takes_long():
    assert len(ROWS) == 9


def test_dollars_are_tokens_times_prices():
    tokens_in, tokens_out = (
        number(re.search(rf"tokens per image, {way} \| (\d+)", PAGE)[1]) for way in ("in", "out")
    )
    images = number(re.search(r"study's size: ([\d,]+) images", PAGE)[1])
    price_in, price_out = map(float, re.search(r"`: ([\d.]+) and ([\d.]+) USD", PAGE).groups())
    dollars = images * (tokens_in * price_in + tokens_out * price_out) / 1e6
    assert f"**{dollars:.2f} USD**" in PAGE
    minutes = images / number(re.search(r"requests per minute \| ([\d,]+)", PAGE)[1])
    assert f"**{minutes:.0f} minutes**" in PAGE
    assert f"{images / 15 / 60:.0f} hours at 15 requests" in PAGE
