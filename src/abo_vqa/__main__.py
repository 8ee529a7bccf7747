"""`python -m abo_vqa` and `python src/abo_vqa`.

The pipeline runs the second form, so that a stage uses the sources of the workspace it runs in:
`dvc exp run --temp` has its own copy of `src`, while the installed package points to the main one.
Any Python must be able to read this file, and get as far as `ensure_usable_python`.
"""

import gc
import os
import sys

source = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path[0] = source

from abo_vqa.core import interpreter

interpreter.ensure_usable_python(os.path.dirname(source))

# Imports, WordNet's index and figures make millions of objects that stay: looking for garbage among
# them again and again costs a stage of the sample a tenth of its seconds, and so does once at exit.
gc.set_threshold(100000, 50, 50)

from abo_vqa.cli import main

code = main()
if "triton" not in sys.modules:  # it lists at exit whatever wasn't cleared away
    gc.freeze()
sys.exit(code)
