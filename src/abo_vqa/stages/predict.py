"""Stage `predict`: the fine-tuned model's answers to the test rows.

A stage of its own, so that another number of resamples repeats no inference.
"""

from __future__ import annotations

import argparse
from functools import partial

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.locks import discard
from abo_vqa.core.paths import ADAPTER, FINETUNED_MODEL, TEST, predictions_of
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.models.answering.finetuned import finetuned_folder, predict_finetuned


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write reports/finetuned/predictions.csv.

    Args:
        config: the settings.
    """
    test = read_table(TEST, ["row_id", "image_path", "question"])
    folder = finetuned_folder(config, test)
    predictions = predict_finetuned(config, test, folder)
    out = write_table(predictions, predictions_of(FINETUNED_MODEL))
    failed = int((predictions["error"] != "").sum())
    return Summary(
        f"finetuned: {len(predictions)} rows → {out}"
        + (f"; {failed} without an answer" if failed else ""),
        metrics={"rows": len(predictions), "failed": failed},
        params={"adapter": str(ADAPTER)},
        datasets={"testing": TEST},
        artifacts=(out,),
        cleanup=partial(discard, folder),
    )


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    config = load_config()
    print(execute("predict", run, config, checkpoint=config.lora.model))
    return 0
