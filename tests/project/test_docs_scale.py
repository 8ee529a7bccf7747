"""docs/scale.md's arithmetic, from rates that docs/benchmarks.md has."""

import re

import pytest

from tests.support import ROOT

PAGE = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")


def number(text: str) -> float:
    return float(text.replace(",", ""))


def section(title: str) -> list[list[str]]:
    """The rows of a section's table, cell by cell."""
    text = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return rows[1:]


def close(written: str, value: float) -> bool:
    """Whether a number is what its digits say, rounded."""
    digits = len(written.partition(".")[2]) if "." in written else 0
    coarse = 10 ** max(0, len(written.replace(",", "").split(".")[0]) - 3) if not digits else 1
    return abs(number(written) - value) <= max(0.51 * 10**-digits * coarse, 0.006 * value)


@pytest.mark.parametrize("row", section("Core-hours"), ids=lambda row: row[0])
def test_hours_are_the_work_over_the_rate(row: list[str]) -> None:
    hours = number(row[2]) / number(row[1]) / 3600
    assert close(row[3], 1e6 * hours)
    assert close(row[4], 1e8 * hours)


@pytest.mark.parametrize("row", section("Bytes"), ids=lambda row: row[0])
def test_gigabytes_are_bytes_times_products(row: list[str]) -> None:
    size = number(row[1]) * number(row[2])
    assert close(row[3], 1e6 * size / 1e9)
    assert close(row[4], 1e8 * size / 1e9)


@pytest.mark.parametrize("row", section("Dollars"), ids=lambda row: row[0][:30])
def test_dollars_are_prices_times_products(row: list[str]) -> None:
    assert close(row[3], 1e6 * number(row[1]) * number(row[2]))
    assert close(row[4], 1e8 * number(row[1]) * number(row[2]))


def test_prices_follow_from_the_other_tables() -> None:
    hours = {row[0]: number(row[3]) / 1e6 for row in section("Core-hours")}
    dollars = {row[0]: number(row[1]) for row in section("Dollars")}
    [cores] = [price for name, price in dollars.items() if "core-hour" in name]
    assert cores == pytest.approx(
        0.04 * (hours["`embed`, BLIP-base"] + hours["`baseline@blip`"]), rel=0.01
    )
    [kept] = [price for name, price in dollars.items() if "kept for a month" in name]
    [size] = [number(row[1]) for row in section("Bytes") if "vision outputs" in row[0]]
    assert kept == pytest.approx(0.023 * size / 1e9, rel=0.01)


def test_rates_are_the_measured_ones() -> None:
    """A rehearsed stage's rate is of two cores."""
    rates = {row[0]: number(row[1]) for row in section("Core-hours")}
    rehearsed = re.findall(
        r"^\| `([\w@-]+)` \|.*\| ([\d.]+) \| [\d.]+ \|$", BENCHMARKS, re.MULTILINE
    )
    both = {name: float(rate) for name, rate in rehearsed}
    for name, rate in rates.items():
        stage = name.strip("`").partition("`")[0]
        if stage in both:
            assert rate == pytest.approx(both[stage] / 2, rel=0.01), name
    assert "| 1,000,000 | 29.6 | 1.02 | 1,205 |" in BENCHMARKS
    assert rates["`curate`: parse, join, filter"] == pytest.approx(1e6 / 29.6, rel=0.01)
    assert "| 3,000,000 | 1,000,000 | 633,318 | 241,483 | 24.9 |" in BENCHMARKS
    assert "| 3,000,000 | 382,655 | 148,115 | 146.2 |" in BENCHMARKS
    assert rates["blind baselines"] == pytest.approx(3e6 / 146.2, rel=0.01)
    assert "| 3,000,000 | 326.6 |" in BENCHMARKS
    assert rates["`evaluate`, six models"] == pytest.approx(3e6 / 326.6, rel=0.01)
    assert rates["`split`, with its audit"] == pytest.approx(3e6 / 24.9, rel=0.01)
