"""Markdown tables stay tables whatever is in their cells."""

from abo_vqa.reporting.markdown import headline_table, markdown_table, slice_table, value_table


def test_cells_cant_break_the_table():
    text = markdown_table(("answer", "n"), [("a|b\nc", 3)])
    assert text == "| answer | n |\n| --- | --: |\n| a\\|b c | 3 |"


def test_headline_marks_the_best_blind_baseline_and_the_fine_tuned_model():
    row = {"name": "BLIP + LoRA", "kind": "finetuned", "accuracy": 0.6709, "interval": (0.66, 0.68),
           "gain": 0.2412, "gain_interval": (0.23, 0.25), "is_blind_best": False,
           "coverage": 1.0}  # fmt: skip
    baseline = {**row, "name": "Blind", "kind": "blind", "is_blind_best": True}
    lines = headline_table([row, baseline], "90%").splitlines()
    assert lines[0].count("90% interval") == 2
    assert lines[2] == (
        "| **BLIP + LoRA** | 67.1% | 66.0 to 68.0 | +24.1 | +23.0 to +25.0 | 100.0% |"
    )
    assert lines[3] == "| Blind | 67.1% | 66.0 to 68.0 | best blind |  | 100.0% |"


def test_a_value_a_model_lacks_is_a_dash():
    cell = {"accuracy": 0.5, "low": 0.4, "high": 0.6}
    part = {"models": ["blip", "vilt"], "rows": [{"value": "color", "n": 9, "cells": [cell, None]}]}
    assert slice_table(part).splitlines()[-1] == "| color | 9 | 50.0% (40.0 to 60.0) | – |"


def test_pairs_show_counts_and_shares():
    lines = value_table(("check", "n"), [("rows", 1602), ("share", 0.25)]).splitlines()
    assert lines[2:] == ["| rows | 1,602 |", "| share | 25.0% |"]
