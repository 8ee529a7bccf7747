"""Aliases: both ways round, not chained, and equal base forms."""

from abo_vqa.evaluation.aliases import alias_match, read_aliases


def test_aliases_go_both_ways_and_are_not_chained(tmp_path):
    table = tmp_path / "aliases.csv"
    table.write_text("answer,alias\ncircle,circular\ncircle,round\n")
    aliases = read_aliases(table)
    assert alias_match("circular", "circle", aliases) == 1
    assert alias_match("Circle", "the round", aliases) == 1
    assert alias_match("circular", "round", aliases) == 0
    assert alias_match("chairs", "chair", aliases) == 1
    assert alias_match("red", "blue", aliases) == 0
