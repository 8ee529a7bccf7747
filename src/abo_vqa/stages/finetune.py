"""Stage `finetune`: LoRA (Hu et al., 2022, arXiv:2106.09685) on `lora.model`.

The vision part is frozen and has no dropout, so its outputs come from the stage `embed`, unless
`lora.targets` reach it. Killed at any step, the same command continues from the last checkpoint
and ends with the same bytes.
"""

from __future__ import annotations

import argparse
from functools import partial

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.files import atomic_folder
from abo_vqa.core.json_files import write_results
from abo_vqa.core.locks import discard
from abo_vqa.core.paths import ADAPTER, TRAIN, TRAINING
from abo_vqa.core.processes import rank_and_world_size, sigterm_as_exit, stop_with_parent
from abo_vqa.core.stage import execute, pin_threads
from abo_vqa.core.summary import Log, Summary, no_cleanup, no_log
from abo_vqa.core.system_errors import report_full_disk
from abo_vqa.training.card import describe_validation, model_card
from abo_vqa.training.registration import describe_adapter
from abo_vqa.training.run import TrainingResult, locked_checkpoints, train

# A loss differs in the sixth digit between processors; a rate is exact, and may be small.
_DIGITS = {"loss": ".3f", "validation_loss": ".3f", "lr": ".6g"}


def run(config: Config, log: Log = no_log) -> Summary:
    """Write models/adapter and reports/training.json.

    Args:
        config: the settings.
        log: receives the loss, step by step.
    """
    with locked_checkpoints(config) as folder:
        result = train(config, folder, log)
        if result.is_main:
            _write(config, result)
    metrics = result.metrics
    validated_on = describe_validation(metrics["held_out_rows"])
    message = (
        f"{metrics['modules']} layers, {metrics['trainable_parameters']:,} trainable parameters; "
        f"best epoch {metrics['best_epoch']}: {metrics['best_validation_accuracy']:.3f} on "
        f"{validated_on}; {result.cost['rows_per_second']:,.0f} rows/s"
    )
    return Summary(
        message,
        metrics={**metrics, **result.cost},
        params={"validated_on": validated_on},
        headline={name: metrics[name] for name in ("best_validation_accuracy", "best_epoch")},
        datasets={"training": TRAIN},
        artifacts=(TRAINING,),
        tables=result.tables(),
        model=describe_adapter(config, result),
        cleanup=partial(discard, folder) if result.is_main else no_cleanup,
    )


def _write(config: Config, result: TrainingResult) -> None:
    """Write the best epoch's adapter with its model card, and the history."""
    assert result.save is not None
    with report_full_disk(ADAPTER), atomic_folder(ADAPTER) as folder:
        result.save(folder)
        (folder / "README.md").write_text(model_card(config, result.metrics), encoding="utf-8")
    history = {"epochs": result.history.epochs, "steps": result.history.steps}
    report = {**result.metrics, "matched": result.target_layers, **history}
    write_results(report, TRAINING, _DIGITS)


def command(_args: argparse.Namespace) -> int:
    """Run the stage, or this process's part of it.

    Returns:
        The exit code.
    """
    config = load_config()
    if rank_and_world_size()[0] == 0:
        print(execute("finetune", run, config, checkpoint=config.lora.model))
        return 0
    pin_threads(config.threads)  # the first of several processes keeps the records
    with sigterm_as_exit(), stop_with_parent():
        run(config).cleanup()
    return 0
