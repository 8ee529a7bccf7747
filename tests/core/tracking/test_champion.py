"""The champion: who it is, what it takes to replace it, and that the reasons are on record."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from abo_vqa.core.summary import ModelVersionInfo
from abo_vqa.core.tracking import champion, registry
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.experiment import prepare

NAME = "adapters"
ROWS = 156


def answers(right, shared=80):
    """Correctness on 156 rows: the first `shared` and, of the others, the last ones."""
    return [at < shared or at >= ROWS - (right - shared) for at in range(ROWS)]


@pytest.fixture
def register(checkout):
    """Registers a version without a model behind it, as `registry.register` describes it."""
    experiment = prepare("abo-vqa")
    client = connect()
    client.create_registered_model(NAME)

    def register(correct, rows="rows", profile="sample"):
        run = client.create_run(experiment, run_name="finetune").info.run_id
        version = client.create_model_version(NAME, f"runs:/{run}/model", run).version
        accuracy = float(np.mean(correct)) if correct else 0.5
        info = ModelVersionInfo(
            name=NAME, profile=profile, code="", package="",
            package_parts=(), requirements=(), inputs=(),
            outputs=(), description="LoRA: rank 16.", settings={}, validation=accuracy,
            held_out=rows, correct=correct,
        )  # fmt: skip
        registry._describe_version(client, run, version, info)
        return run, client.get_model_version(NAME, version)

    return register


def aliases():
    return {name: str(at) for name, at in connect().get_registered_model(NAME).aliases.items()}


def test_the_first_version_is_champion(register):
    _, version = register(answers(90))
    assert aliases() == {"latest-sample": "1", "champion-sample": "1", "champion": "1"}
    assert version.tags["role"] == "champion"
    assert version.tags["decision"] == "the first version of profile sample"
    assert "Validation: 57.7% of 156 held-out rows (95% interval 49.8 to 65.2)." in (
        version.description
    )
    assert "Champion: the first version" in version.description


def test_a_better_version_takes_over_and_says_by_how_much(register):
    register(answers(90))
    _, second = register(answers(120))
    assert aliases()["champion"] == aliases()["champion-sample"] == str(second.version)
    assert "challenger" not in aliases()
    # 120 - 80 of the rows are right in both or in the second only: none of the first is lost
    p = binomtest(0, 30).pvalue
    assert p < 0.001
    reason = "better than version 1: 76.9% against 57.7% on 156 held-out rows, p < 0.001"
    assert second.tags["decision"] == reason
    assert second.tags["p_value"] == f"{p:.4g}"
    assert f"Champion: {reason}." in second.description


@pytest.mark.parametrize("right", [92, 90, 60])
def test_a_version_that_isnt_clearly_better_challenges(register, right):
    register(answers(90))
    _, second = register(answers(right, shared=min(right, 80)))
    assert aliases()["champion"] == "1"
    assert aliases()["challenger"] == aliases()["challenger-sample"] == str(second.version)
    assert second.tags["role"] == "challenger"
    assert second.tags["decision"].startswith("not better than version 1: ")
    assert "p = " in second.tags["decision"] or "p < " in second.tags["decision"]


def test_more_right_answers_alone_arent_enough(register):
    """53 against 47 of 100 rows that differ: more, and yet p is above 0.05."""
    register([at < 77 or at >= 130 for at in range(ROWS)][:ROWS])
    _, second = register([at >= 47 for at in range(ROWS)])
    assert float(second.tags["p_value"]) > 0.05 or second.tags["role"] == "champion"
    new, old = sum(at >= 47 for at in range(ROWS)), 77 + 26
    p = binomtest(47, 47 + 53).pvalue
    assert (new, old) == (109, 103)
    assert second.tags["p_value"] == f"{p:.4g}"
    assert second.tags["role"] == "challenger"


@pytest.mark.parametrize(
    ("correct", "rows", "reason"),
    [
        (
            answers(150),
            "others",
            "not comparable with version 1, which was validated on other rows",
        ),
        ([], "", "not comparable with version 1: no row was held out"),
    ],
)
def test_other_rows_arent_compared(register, correct, rows, reason):
    register(answers(90))
    _, second = register(correct, rows)
    assert (second.tags["role"], second.tags["decision"]) == ("challenger", reason)
    assert "p_value" not in second.tags
    assert aliases()["champion"] == "1"


def test_a_champion_of_an_earlier_release_isnt_compared(register):
    _, first = register(answers(90))
    connect().delete_model_version_tag(NAME, first.version, "held_out_correct")
    _, second = register(answers(150))
    assert second.tags["decision"].endswith("whose held-out answers aren't recorded")
    assert aliases()["champion"] == "1"


def test_each_profile_has_a_champion_and_the_last_one_has_the_plain_name(register):
    register(answers(90))
    register(answers(60), rows="of abo", profile="abo")
    assert aliases()["champion"] == aliases()["champion-abo"] == "2"
    champion.follow_profile(connect(), NAME, "sample")
    assert aliases()["champion"] == aliases()["champion-sample"] == "1"
    champion.follow_profile(connect(), "no such model", "sample")


def test_a_repeated_attempt_changes_nothing(register):
    """The outbox tries again what failed half-way, on a champion and on a challenger."""
    register(answers(90))
    _, second = register(answers(120))
    client = connect()
    tags = client.get_model_version(NAME, second.version).tags
    assert champion.appoint(client, NAME, second.version, "sample", tags) is None
    assert client.get_model_version(NAME, second.version).tags == tags
    _, third = register(answers(100))
    again = champion.appoint(client, NAME, third.version, "sample", third.tags)
    assert again.reason == third.tags["decision"]


def test_test_results_are_added_once_to_the_description(register):
    run, version = register(answers(90))
    client = connect()
    client.set_tag(run, "dvc.out.models/adapter", "abc.dir")
    experiment = client.get_run(run).info.experiment_id
    for accuracy in (0.6, 0.659):
        registry.add_result(
            client, experiment, "models/adapter", "abc.dir",
            {"accuracy": accuracy, "gain_over_blind": 0.423},
        )  # fmt: skip
    text = client.get_model_version(NAME, version.version).description
    assert text.startswith("LoRA: rank 16.")
    assert text.count("Test: ") == 1
    assert text.endswith("Test: 65.9% of the test rows, +42.3 points over the best blind baseline.")


@pytest.mark.parametrize("count", [1, 8, 156, 3637])
def test_correctness_survives_packing(count):
    correct = (np.random.default_rng(0).random(count) < 0.6).tolist()
    tags = json.loads(json.dumps(champion.held_out_tags("rows", correct)))
    assert champion._correct(tags).tolist() == correct
    assert len(tags["held_out_correct"]) < 100_000 / 20  # what MLflow takes
