"""Slices: their memory, and the same intervals in batches as at once."""

import tracemalloc

import numpy as np
import pandas as pd

from abo_vqa.core.config import load_config
from abo_vqa.evaluation.intervals import bootstrap_slice_means, percentile_interval
from abo_vqa.evaluation.slices import slice_accuracy, slice_members
from tests.support import ROOT


def test_hundreds_of_product_types_take_the_memory_of_a_few() -> None:
    rng = np.random.default_rng(0)
    n, types = 2000, 400
    rows = pd.DataFrame({"product_type": [f"type{i % types}" for i in range(n)]})
    scored = {m: rows.assign(accuracy=rng.integers(0, 2, n).astype(float)) for m in "abcd"}
    clusters = np.arange(n) // 2
    config = load_config(ROOT / "params.yaml")
    few = config.evaluate.model_copy(update={"resamples": 1000})
    config = config.model_copy(update={"evaluate": few})
    tracemalloc.start()
    cut = slice_accuracy(scored, clusters, config, ["product_type"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = n * types * len(scored) * 8  # a number for each row, type and model: 26 MB
    assert peak < 3 * whole
    right = np.column_stack([table["accuracy"] for table in scored.values()])
    inside = list(slice_members(rows, ["product_type"]).values())
    means = bootstrap_slice_means(right, inside, clusters, few.resamples, config.seed)
    at_once = percentile_interval(means, few.confidence).reshape(types, len(scored), 2)
    for m, model in enumerate(scored):
        for k, row in enumerate(cut[model]["product_type"]):
            if row["accuracy"] not in (0, 1):
                assert [row["low"], row["high"]] == at_once[k, m].tolist()
