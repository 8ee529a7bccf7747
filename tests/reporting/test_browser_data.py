"""The browser's data: every row, every prediction, every metric, and nothing that ends a script."""

import json
import math
import re

import pytest

from abo_vqa.core.config import load_config
from abo_vqa.reporting.browser import browser_payload, render_browser
from abo_vqa.reporting.inputs import load_results
from tests.support.reports import make


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = make(tmp_path_factory.mktemp("results"), 40, 2, pictures=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return load_results(load_config())


def test_decodes_to_the_scores(results):
    data = browser_payload(results, {})
    names = [name for name, _ in data["metrics"]]
    assert {m["id"] for m in data["models"]} == set(results.metrics)
    assert data["models"][0]["id"] == "finetuned"
    for model, columns in zip(data["models"], data["predictions"], strict=True):
        scores = results.scores[model["id"]].set_index("row_id").loc[data["rows"]["id"]]
        assert [data["strings"][i] for i in columns["text"]] == list(scores["prediction"])
        failed = {int(i): data["strings"][s] for i, s in columns["error"].items()}
        assert failed == {i: e for i, e in enumerate(scores["error"]) if e}
        for name in names:
            k = names.index(name)
            shown = [data["vectors"][v][k] for v in columns["vector"]]
            for ours, theirs in zip(shown, scores[name], strict=True):
                assert (ours is None) == math.isnan(theirs)
                assert ours is None or ours == pytest.approx(theirs, abs=5e-5)


def test_a_failure_keeps_its_reason_and_has_no_metric_but_accuracy(results):
    data = browser_payload(results, {})
    names = [name for name, _ in data["metrics"]]
    m = [model["id"] for model in data["models"]].index("blip2")
    failed = [int(i) for i in data["predictions"][m]["error"]]
    assert failed
    for i in failed:
        vector = data["vectors"][data["predictions"][m]["vector"][i]]
        assert vector[names.index("accuracy")] == 0
        assert vector[names.index("f1")] is None


def test_data_cant_end_the_script(results):
    scores = results.scores["finetuned"]
    scores.loc[scores.index[0], "question"] = "</script><script>alert(1)</script><!--\u2028"
    page = render_browser("t", browser_payload(results, {}))
    text = re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1)
    assert "<" not in text
    assert scores["question"].iloc[0] in json.loads(text)["strings"]
