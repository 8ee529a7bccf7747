"""`python -m abo_vqa` and `python src/abo_vqa`.

The pipeline runs the second form, so that a stage uses the sources of the workspace it runs in:
`dvc exp run --temp` has its own copy of `src`, while the installed package points to the main one.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from abo_vqa.cli import main  # noqa: E402 (the path comes first)

sys.exit(main())
