"""Sentences and tables follow the numbers, also where the numbers aren't flattering."""

from dataclasses import replace

import pytest

from abo_vqa.core.config import load_config
from abo_vqa.reporting import findings, tables
from abo_vqa.reporting.inputs import load_results
from tests.support.reports import make


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = make(tmp_path_factory.mktemp("results"), 200, 1, pictures=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return load_results(load_config())


def with_pairs(results, **changes):
    """The same results with every paired comparison of the fine-tuned model changed."""
    pairs = [
        {**pair, **changes} if "finetuned" in (pair["a"], pair["b"]) else pair
        for pair in results.evaluation["pairs"]
    ]
    return replace(results, evaluation={**results.evaluation, "pairs": pairs})


def test_the_sentence_names_level_interval_and_both_gains(results):
    said = findings.conclusion(with_pairs(results, significant=True))
    assert said.startswith("BLIP fine-tuned with LoRA answers ")
    assert "95% interval" in said
    assert said.count("points more than") == 2
    assert said.endswith("never sees an image.")


def test_a_difference_by_chance_is_called_that(results):
    said = findings.conclusion(with_pairs(results, significant=False))
    assert said.count("not significantly different (") == 2


def test_the_blind_baseline_is_cleared_beyond_chance_only_after_correction(results):
    blind = results.best_blind
    pairs = [{**p, "difference": 0.1, "low": 0.01, "significant": False}
             if p["b"] == blind or p["a"] == blind else p
             for p in results.evaluation["pairs"]]  # fmt: skip
    unsure = replace(results, evaluation={**results.evaluation, "pairs": pairs})
    said = findings.further_findings(unsure)
    assert (
        f"No zero-shot model is significantly better after adjustment for all {len(pairs)} "
        in said[0]
    )


def test_a_blind_baseline_whose_fit_was_stopped_is_said(results):
    assert not any(
        "stopped before it converged" in line for line in findings.further_findings(results)
    )
    evaluation = {**results.evaluation, "unfinished_fits": ["blind-ngram"]}
    said = findings.further_findings(replace(results, evaluation=evaluation))
    assert any(
        "The fit of Blind (n-grams) was stopped before it converged" in line for line in said
    )


def test_a_blind_baseline_that_was_fitted_on_a_part_is_named(results):
    part = "1,024 of 3,429 answers (94.3% of the rows)"
    assert not any("was fitted on" in line for line in findings.further_findings(results))
    evaluation = {**results.evaluation, "partial_fits": {"blind-ngram": part}}
    sentences = findings.further_findings(replace(results, evaluation=evaluation))
    assert (
        f"Blind (n-grams) was fitted on {part}, so the blind baseline may be higher than shown "
        "here." in sentences
    )


def test_a_loss_is_called_a_loss(results):
    worse = {m: dict(v) for m, v in results.metrics.items()}
    worse["finetuned"]["accuracy"] = 0.01
    worse_results = replace(with_pairs(results, significant=True), metrics=worse)
    said = findings.conclusion(worse_results)
    assert said.count("points fewer than") == 2


def ranking_sentence(results, world, **changes) -> str:
    """What is said of ranked answers, given the candidates and the paired comparison."""
    changed = with_pairs(results, **changes)
    evaluation = {**changed.evaluation, "closed_world": world}
    lines = findings.further_findings(replace(changed, evaluation=evaluation))
    return next((line for line in lines if line.startswith("Choosing the likeliest")), "")


def test_what_fine_tuning_has_brought_is_said(results):
    pair = {"difference": -0.194, "low": -0.238, "high": -0.15}  # the base minus it
    for significant in (True, False):
        changed = with_pairs(results, **pair, significant=significant)
        lines = findings.further_findings(changed)
        (line,) = [line for line in lines if line.startswith("Fine-tuning changes")]
        assert line.startswith("Fine-tuning changes the accuracy of BLIP by +19.4 points")
        assert ("isn't significant" in line) == (not significant)


def test_ranking_that_changes_nothing_is_said_so(results):
    world = {"candidates": 62, "shortlist": "first_token", "k": 62, "covered": 1}
    assert ranking_sentence(results, world, difference=0.0, low=0.0, high=0.0) == (
        "Choosing the likeliest of train's 62 answers instead of writing freely leaves the "
        "accuracy of BLIP + LoRA exactly as it is. 100.0% of the test rows have one of these "
        "answers."
    )


def test_ranking_is_worth_the_paired_difference(results):
    """Which is stored the other way round: free minus ranked."""
    world = {"candidates": 1797, "shortlist": "frequent", "k": 100, "covered": 0.82}
    pair = {"difference": -0.012, "low": -0.03, "high": 0.006}
    assert ranking_sentence(results, world, **pair, significant=False) == (
        "Choosing the likeliest of train's 100 most frequent answers instead of writing freely "
        "changes the accuracy of BLIP + LoRA by +1.2 points (95% interval −0.6 to "
        "+3.0), which isn't significant. 82.0% of the test rows have one of these answers; the "
        "others can't be answered right this way."
    )
    assert "significant" not in ranking_sentence(results, world, **pair, significant=True)


def test_without_ranking_nothing_is_said_of_it(results):
    assert ranking_sentence(results, None) == ""


def test_without_fine_tuning_the_best_model_is_described(results):
    rest = {m: v for m, v in results.metrics.items() if not m.startswith("finetuned")}
    others = replace(results, metrics=rest)
    assert others.primary_model == others.ranking[0]
    assert "LoRA" not in findings.conclusion(others)


def test_a_pair_is_found_either_way_round(results):
    forth, back = results.pair("finetuned", "blip"), results.pair("blip", "finetuned")
    assert forth["difference"] == -back["difference"]
    assert (forth["low"], forth["high"]) == (-back["high"], -back["low"])
    assert forth["p_adjusted"] == back["p_adjusted"]


def test_errors_are_wrong_answers_of_every_question_type(results):
    cards = tables.error_cards(results)
    scores = results.scores["finetuned"]
    wrong = scores[scores["accuracy"] < 1]
    assert 0 < len(cards) <= tables.MAX_ERROR_CARDS
    assert {c["row_id"] for c in cards} <= set(wrong["row_id"])
    assert {c["question_type"] for c in cards} == set(wrong["question_type"])


def test_confused_pairs_count_rows(results):
    first, *_ = rows = tables.confused_pairs(results)
    scores = results.scores["finetuned"]
    same = (scores["answer"] == first["answer"]) & (scores["prediction"] == first["prediction"])
    assert first["n"] == int(same.sum()) == max(row["n"] for row in rows)


def test_flatten_names_nested_counts():
    nested = {"rows": 3, "dropped": {"no_color": 2, "list": [1]}, "ok": True}
    assert tables.labelled_leaves(nested) == [("rows", 3), ("dropped: no color", 2), ("ok", True)]


def test_ordered_slices_go_from_small_to_large(results):
    found = {table["title"]: table["rows"] for table in tables.slice_tables(results)}
    starts = [int(row["value"].split("-")[0]) for row in found["Frequency of the answer in train"]]
    assert len(starts) > 1
    assert starts == sorted(starts)
    sizes = [row["n"] for row in found["Question type"]]
    assert sizes == sorted(sizes, reverse=True)
