"""`python -m abo_vqa` and `python src/abo_vqa`.

The pipeline runs the second form, so that a stage uses the sources of the workspace it runs in:
`dvc exp run --temp` has its own copy of `src`, while the installed package points to the main one.
Any Python must be able to read this file, and get as far as `ensure_usable_python`.
"""

import os
import sys

source = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[0] = source

from abo_vqa.core import interpreter

interpreter.ensure_usable_python(os.path.dirname(source))

from abo_vqa.cli import run_as_process

run_as_process()
