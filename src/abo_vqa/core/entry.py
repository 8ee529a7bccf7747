"""How a process of this program begins and ends."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn


def run_process(main: Callable[[], int]) -> NoReturn:
    """Run a program's main function and end the process with the exit code that it returns.

    Imports, WordNet's index and figures make millions of objects that stay. Looking for garbage
    among them again and again costs a stage of the sample a tenth of its seconds. Taking them apart
    one by one at exit costs 5 to 20 s with transformers loaded, for nothing: whoever has something
    to finish says so with `atexit`, and the rest is the operating system's.

    Args:
        main: the program.

    Raises:
        SystemExit: always; the exit code is what `main` returned.
    """
    codes: list[int] = []

    def leave() -> None:
        if not codes:  # an error ends the process: Python reports it
            return
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(codes[0])

    atexit.register(leave)  # before anybody else's, so that it is called after them
    gc.set_threshold(100_000, 50, 50)
    codes.append(main())
    sys.exit(codes[0])
