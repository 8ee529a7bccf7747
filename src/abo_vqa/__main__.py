"""`python -m abo_vqa` and `python src/abo_vqa`.

The pipeline runs the second form, so that a stage uses the sources of the workspace it runs in:
`dvc exp run --temp` has its own copy of `src`, while the installed package points to the main one.
"""

import gc
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

# Imports, WordNet's index and figures make millions of objects that stay: looking for garbage among
# them again and again costs a stage of the sample a tenth of its seconds, and so does once at exit.
gc.set_threshold(100_000, 50, 50)

from abo_vqa.cli import main  # noqa: E402 (the path comes first)

code = main()
if "triton" not in sys.modules:  # it lists at exit whatever wasn't cleared away
    gc.freeze()
sys.exit(code)
