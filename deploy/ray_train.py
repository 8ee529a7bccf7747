"""`abo-vqa finetune` in the workers of Ray Train, one for each GPU of a cluster.

    RAY_ADDRESS=auto python deploy/ray_train.py --workers 4 && dvc commit --force finetune

Ray Train starts the processes and tells each its rank, as torchrun does; Accelerate does the rest.
A worker that dies ends all of them; Ray Train starts them again, from the last checkpoint. On
several machines the checkout, with the checkpoints, has to be on a disk that they share.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "src"


def finetune(settings: dict[str, str]) -> None:
    """Run the stage in this worker.

    Args:
        settings: `checkout`, the folder to work in.

    Raises:
        RuntimeError: it has failed; Ray Train starts all workers again.
    """
    from abo_vqa import cli

    os.chdir(settings["checkout"])
    if code := cli.main(["finetune"]):
        raise RuntimeError(f"abo-vqa finetune ended with {code}")


def main() -> None:
    """Start the workers, and wait for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1, help="how many")
    parser.add_argument("--cpu", action="store_true", help="on cores instead of GPUs")
    args = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from abo_vqa.core.engine.opening import share_token

    share_token()
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    ray.init(include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": str(SOURCES)}})
    shared = Path(".cache/ray-train").absolute()  # Ray Train wants a folder that all machines have
    shared.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        TorchTrainer(
            finetune,
            train_loop_config={"checkout": str(Path.cwd())},
            scaling_config=ScalingConfig(num_workers=args.workers, use_gpu=not args.cpu),
            run_config=RunConfig(storage_path=folder, failure_config=FailureConfig(max_failures=3)),
        ).fit()


if __name__ == "__main__":
    main()
