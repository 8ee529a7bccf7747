"""The Python that a stage runs in: the checkout's own, where the one that was started won't do.

DVC runs `python3 src/abo_vqa ...` with whatever `python3` the shell finds. Every Python, 2.7
included, must be able to read this file far enough to say what is wrong: hence its plain syntax.
"""

import os
import sys

MIN_PYTHON = (3, 11)
# What the dependencies in pyproject.toml are imported as (a test compares the two), the best known
# first: a message names four.
PACKAGES = (
    "pandas", "torch", "transformers", "mlflow", "dvc", "numpy", "PIL", "accelerate", "bert_score",
    "filelock", "fsspec", "google.genai", "huggingface_hub", "imagehash", "isal", "jinja2",
    "krippendorff", "matplotlib", "msgspec", "nltk", "open_clip", "openai", "optuna", "packaging",
    "peft", "psutil", "pyarrow", "pydantic", "requests", "rouge_score", "safetensors", "scipy",
    "sklearn", "sqlalchemy", "torchvision", "tqdm", "urllib3", "yaml",
)  # fmt: skip
# Set in a process that was started again with another Python, so that this happens only once.
REEXECUTED = "ABO_VQA_REEXECUTED"
REMEDY = (
    "Run `source .venv/bin/activate` and the same command again, or `make repro`; "
    "`make setup` installs what is missing into .venv."
)


def missing_packages():
    # type: () -> list[str]
    """The packages this Python lacks."""
    from importlib.util import find_spec

    missing = []
    for name in PACKAGES:
        try:
            spec = find_spec(name)
        except ImportError:  # "google.genai" where there is no "google"
            spec = None
        if spec is None:
            missing.append(name)
    return missing


def missing_requirement():
    # type: () -> str
    """Why this Python won't do, as the rest of a sentence; "" if it will."""
    if sys.version_info < MIN_PYTHON:
        return "is version " + sys.version.split()[0] + "; 3.11 or newer is needed"
    missing = missing_packages()
    if not missing:
        return ""
    more = len(missing) - 4
    return "lacks " + ", ".join(missing[:4]) + (" and " + str(more) + " more" if more > 0 else "")


def find_venv_python(root):
    # type: (str) -> str
    """The Python of the environment in the checkout (of the main one, in DVC's temporary copy)."""
    for folder in (root, os.environ.get("DVC_ROOT", "")):
        python = os.path.join(folder, ".venv", "bin", "python")
        if folder and os.path.isfile(python):
            return python
    return ""


def ensure_usable_python(root):
    # type: (str) -> None
    """Return if this Python will do; else continue in `root`'s environment, or exit with 2.

    Args:
        root: the checkout that the sources belong to.
    """
    reason = missing_requirement()
    if not reason:
        return
    line = "abo-vqa: " + (sys.executable or "this Python") + " " + reason
    python = find_venv_python(root)
    if python and not os.environ.get(REEXECUTED):
        line += (
            ": continuing with " + python + " (`source .venv/bin/activate` makes it the default)."
        )
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
        inherited = dict(os.environ)
        inherited.pop("PYTHONHOME", None)  # as `activate` does: it is the other Python's
        inherited[REEXECUTED] = "1"
        os.execve(python, [python] + sys.argv, inherited)
    more = " (`dvc checkout` brings back what DVC removed.)" if os.environ.get("DVC_STAGE") else ""
    sys.stderr.write(line + ".\n" + REMEDY + more + "\n")
    sys.exit(2)
