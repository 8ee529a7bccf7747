"""torchrun as `processes.launch` starts it: it ends with its launcher, and without a traceback."""

import logging
import sys
from pathlib import Path

# The checkout's own sources, as in __main__.py; and this folder's modules hide no library's.
sys.path[0] = str(Path(__file__).resolve().parents[2])


def main() -> int:
    """Run torchrun with the options given, and return its exit code."""
    from abo_vqa.core.processes import stop_with_parent

    with stop_with_parent():  # before torch, which takes seconds to import
        from torch.distributed import run
        from torch.distributed.elastic.multiprocessing.api import SignalException

        logging.disable(logging.WARNING)  # which processes it passes a signal on to
        try:
            run.main()
        except SignalException as stop:
            return 128 + int(stop.sigval)
    return 0


if __name__ == "__main__":
    sys.exit(main())
