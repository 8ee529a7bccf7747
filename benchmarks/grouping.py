"""Does it cost accuracy that a picture's questions share a batch? Held-out accuracy, both ways.

    python benchmarks/grouping.py --seeds 6      # after the stages up to `embed`

Each seed has its own held-out rows, order and initial adapter, the same for both ways. Test rows
aren't read.
"""

from __future__ import annotations

import argparse
import math
import shutil
from statistics import mean, stdev

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.stage import pin_threads


def trained(config: Config, seed: int, grouped: bool) -> tuple[float, float, float]:
    """Best held-out accuracy, its loss, and rows a second."""
    from abo_vqa.training.run import locked_checkpoints, train

    lora = config.lora.model_copy(update={"group_pictures": grouped})
    config = config.model_copy(update={"lora": lora, "seed": seed})
    with locked_checkpoints(config) as folder:
        result = train(config, folder)
    shutil.rmtree(folder)
    history = result.history
    return history.best_accuracy, history.best_loss, result.cost["rows_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    config = load_config()
    pin_threads(config.threads)
    print(f"{'seed':>4}{'grouped':>10}{'not':>8}{'losses':>16}{'rows/s':>14}")
    differences = []
    for seed in range(args.seeds):
        (a, loss_a, speed_a), (b, loss_b, speed_b) = (
            trained(config, seed, grouped) for grouped in (True, False)
        )
        differences.append(a - b)
        print(f"{seed:4}{a:10.3f}{b:8.3f}{loss_a:9.3f}{loss_b:7.3f}{speed_a:8.0f}{speed_b:6.0f}")
    error = stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    print(f"grouped minus not: {mean(differences):+.4f}, standard error {error:.4f}")


if __name__ == "__main__":
    main()
