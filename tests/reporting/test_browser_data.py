"""The browser's data: every row, every prediction, every metric, and nothing that ends a script."""

import base64
import json
import math
import re
from dataclasses import replace

import pytest

from abo_vqa.core.config import load_config
from abo_vqa.reporting.browser import browser_payload, render_browser, write_browser_parts
from abo_vqa.reporting.browser_data import collect_browser_data
from abo_vqa.reporting.inputs import load_results
from tests.support.reports import make


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = make(tmp_path_factory.mktemp("results"), 40, 2, pictures=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return load_results(load_config())


@pytest.fixture
def own(results):
    """The same results, for a test to change."""
    scores = {model: table.copy() for model, table in results.scores.items()}
    return replace(results, scores=scores)


def test_decodes_to_the_scores(results):
    data = browser_payload(collect_browser_data(results), {})
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
    data = browser_payload(collect_browser_data(results), {})
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
    page = render_browser("t", browser_payload(collect_browser_data(results), {}))
    text = re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1)
    assert "<" not in text
    assert scores["question"].iloc[0] in json.loads(text)["strings"]


def unpacked(column):
    raw = base64.b64decode(column["data"])
    width = column["bytes"]
    stored = [int.from_bytes(raw[i : i + width], "little") for i in range(0, len(raw), width)]
    return [value + column["low"] - 1 if value else None for value in stored]


@pytest.fixture
def parts(results, tmp_path):
    """The content of each script of a large page, by its name."""
    header = write_browser_parts(collect_browser_data(results), {}, tmp_path / "browser")
    assert header["folder"] == "browser"
    contents = {}
    for path in (tmp_path / "browser").iterdir():
        call = re.fullmatch(r"part\((\".*?\"),(\".*\")\);\n", path.read_text(encoding="utf-8"))
        assert json.loads(call[1]) == path.stem
        contents[path.stem] = json.loads(json.loads(call[2]))
    return contents


def test_the_parts_of_a_large_page_hold_the_same(results, parts):
    data = browser_payload(collect_browser_data(results), {})
    assert parts.keys() == {
        "rows",
        *(f"model-{m}" for m in range(len(data["models"]))),
        *(f"metric-{k}" for k in range(len(data["metrics"]))),
    }
    assert parts["rows"]["strings"] == data["strings"]
    assert {n: unpacked(c) for n, c in parts["rows"]["rows"].items()} == data["rows"]
    accuracy = [name for name, _ in data["metrics"]].index("accuracy")
    for m, columns in enumerate(data["predictions"]):
        part = parts[f"model-{m}"]
        assert unpacked(part["text"]) == columns["text"]
        assert unpacked(part["vector"]) == columns["vector"]
        assert part["error"] == columns["error"]
        right = [data["vectors"][v][accuracy] == 1 for v in columns["vector"]]
        assert unpacked(part["correct"]) == right
        known = columns["confidence"]
        sure = part["confidence"] and unpacked(part["confidence"])
        assert sure == (known and [None if c is None else round(1000 * c) for c in known])
    for k in range(len(data["metrics"])):
        values = unpacked(parts[f"metric-{k}"]["values"])
        assert values == [v[k] if v[k] is None else round(10_000 * v[k]) for v in data["vectors"]]


def test_texts_that_differ_in_case_have_one_rank(own, tmp_path):
    scores = own.scores["finetuned"]
    scores.loc[scores.index[:4], "question"] = ["b", "B", "a", "\U0001f600"]
    scores.loc[scores.index[4], "question"] = "\uffee"  # after an emoji's first UTF-16 unit
    write_browser_parts(collect_browser_data(own), {}, tmp_path / "browser")
    text = (tmp_path / "browser" / "rows.js").read_text(encoding="utf-8")
    rows = json.loads(json.loads(text.removeprefix('part("rows",').removesuffix(");\n")))
    rank = dict(zip(rows["strings"], unpacked(rows["rank"]), strict=True))
    assert rank["a"] < rank["b"] == rank["B"] < rank["\U0001f600"] < rank["\uffee"]


def test_parts_of_large_numbers_take_as_many_bytes_as_they_need(own, tmp_path):
    scores = own.scores["finetuned"]
    scores["row_id"] = range(70_000, 70_000 + 256 * len(scores), 256)
    for table in own.scores.values():
        table["row_id"] = scores["row_id"].to_numpy()
    write_browser_parts(collect_browser_data(own), {}, tmp_path / "browser")
    text = (tmp_path / "browser" / "rows.js").read_text(encoding="utf-8")
    rows = json.loads(json.loads(text.removeprefix('part("rows",').removesuffix(");\n")))
    assert rows["rows"]["id"]["bytes"] == 2  # their differences, not their size
    assert unpacked(rows["rows"]["id"]) == scores["row_id"].tolist()
