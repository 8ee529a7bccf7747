# %% tags=["source"]
# The source of kaggle.ipynb and colab.ipynb: `make notebooks` writes them. Cells with a tag are in
# one of the two only. Plain Python, for whatever Python and IPython the service has; torch and the
# other libraries are used by commands, in an environment of their own.

# %% [markdown] tags=["kaggle"]
# # A visual question answering study on Kaggle's two T4
#
# From the raw Amazon Berkeley Objects archives to a report: questions about 14,798 product
# images, five zero-shot models, a LoRA fine-tune of BLIP, and one evaluation on the same rows.
#
# **Before you start**, in the panel on the right: *Accelerator* → **GPU T4 x2**, *Internet* →
# **on** (both need a phone number in your account). Then *Save Version* → *Save & Run All*, which
# goes on when you close the browser, or run the cells one by one.
#
# **How long?** Installing and fetching, about 50 GB in all, depend on the network: 20 to 40
# minutes. Then an estimated 1½ to 3 hours for a tenth of the rows (`FRACTION = 0.1`), 5 to 10 for
# all. Kaggle limits a session (12 hours with a GPU when this was written) and the GPU hours of a
# week (about 30). After `HOURS` (8 hours and 35 minutes) this notebook stops and saves, and the
# next session continues. The arithmetic is in
# [docs/notebooks.md](https://github.com/abo-vqa/abo-vqa/blob/main/docs/notebooks.md). To see it
# work first, set `PROFILE = "sample"`: minutes, without a GPU.

# %% [markdown] tags=["colab"]
# # A visual question answering study on Colab's T4
#
# From the raw Amazon Berkeley Objects archives to a report: questions about 14,798 product
# images, five zero-shot models, a LoRA fine-tune of BLIP, and one evaluation on the same rows.
#
# **Before you start**: *Runtime* → *Change runtime type* → **T4 GPU**. Then *Runtime* → *Run all*.
#
# **How long?** Installing and fetching, about 50 GB in all, depend on the network: 20 to 40
# minutes. Then an estimated 1½ to 3 hours for a tenth of the rows (`FRACTION = 0.1`), 5 to 10 for
# all. Colab may end a session at any time: work is saved to your Drive every ten minutes, and
# *Run all* in a new session continues. The arithmetic is in
# [docs/notebooks.md](https://github.com/abo-vqa/abo-vqa/blob/main/docs/notebooks.md). To see it
# work first, set `PROFILE = "sample"`: minutes, without a GPU.

# %% tags=["parameters", "kaggle"]
PROFILE = "t4"  # "sample": the small drawn catalogue, to see that everything works
FRACTION = 0.1  # of the rows that each zero-shot model answers; 1.0 for all
ANNOTATOR = "offline"  # who writes the questions; "gemini" needs the secret GEMINI_API_KEY
PROCESSES = None  # None: one for each GPU
HOURS = 8.58  # after which the work is stopped and saved: less than Kaggle's limit of a session
REPOSITORY = "https://github.com/abo-vqa/abo-vqa"
CHECKOUT = "/tmp/abo-vqa"  # a large disk that isn't kept; /kaggle/working has 20 GB
SAVED = "/kaggle/working/abo-vqa-session"  # what the next session continues from
FORMER = "/kaggle/input/**/abo-vqa-session"  # where earlier versions' output is attached
EVERY = 10  # minutes between two saves
EMBEDDINGS = False  # whether vision outputs (13 GB) are saved, too

# %% tags=["parameters", "colab"]
PROFILE = "t4"  # "sample": the small drawn catalogue, to see that everything works
FRACTION = 0.1  # of the rows that each zero-shot model answers; 1.0 for all
ANNOTATOR = "offline"  # who writes the questions; "gemini" needs the secret GEMINI_API_KEY
PROCESSES = None  # None: one for each GPU
HOURS = 11.5  # after which the work is stopped and saved; Colab may end it at any time before
REPOSITORY = "https://github.com/abo-vqa/abo-vqa"
CHECKOUT = "/content/abo-vqa"  # the machine's own disk
SAVED = "/content/drive/MyDrive/abo-vqa-session"  # what the next session continues from
FORMER = SAVED
EVERY = 10  # minutes between two saves
EMBEDDINGS = False  # whether vision outputs (13 GB) are saved, too

# %%
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

BEGAN = time.monotonic()


def run(*words, check=True):
    """Run a command, show what it prints, and return its exit code."""
    command = list(map(str, words))
    with subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
        except KeyboardInterrupt:  # the command got it, too, and saves its work
            for line in process.stdout:
                print(line, end="", flush=True)
            raise
    if check and process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}; see above")
    return process.returncode


def output(*words):
    """Return what a command prints."""
    return subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE).stdout


# %% [markdown] tags=["colab"]
# ## Your Drive
#
# A session's disk is gone when the session ends, so the work is saved to your Drive: tens to
# hundreds of MB, of the 15 GB that are free. Colab asks for your permission once.

# %% tags=["colab"]
try:
    from google.colab import drive
except ImportError:
    print(f"not on Colab: the work is saved to {SAVED}")
else:
    drive.mount("/content/drive")

# %% [markdown]
# ## Secrets
#
# Keys come from the service's own store, under the names below, and go into the environment of the
# commands. None is needed with the settings above, and none is printed.

# %% tags=["kaggle"]
SECRETS = ("GEMINI_API_KEY", "HF_TOKEN", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD")
try:
    from kaggle_secrets import UserSecretsClient
except ImportError:
    print("not on Kaggle: keys are the environment's")
else:
    for name in SECRETS:
        try:
            os.environ[name] = UserSecretsClient().get_secret(name)
        except Exception:  # there is none of that name; its message may quote what was asked
            print(f"{name}: not set")

# %% tags=["colab"]
SECRETS = ("GEMINI_API_KEY", "HF_TOKEN", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD")
try:
    from google.colab import userdata
except ImportError:
    print("not on Colab: keys are the environment's")
else:
    for name in SECRETS:
        try:
            os.environ[name] = userdata.get(name)
        except Exception:  # there is none of that name, or no permission
            print(f"{name}: not set")

# %% [markdown]
# ## Install
#
# Into `.venv` of the checkout, at the versions of `requirements.lock`, so that nothing of the
# notebook's own libraries changes. If the service's torch is one that the project supports, it is
# used as it is, which saves 3 GB; else the build for the installed driver is fetched.

# %%
if not Path(CHECKOUT, "dvc.yaml").is_file():
    run("git", "clone", "--quiet", REPOSITORY, CHECKOUT)
os.chdir(CHECKOUT)
os.environ["PATH"] = os.pathsep.join([f"{CHECKOUT}/.venv/bin", os.environ["PATH"]])
os.environ.setdefault("HF_HOME", f"{Path(CHECKOUT).parent}/huggingface")  # weights: the same disk

# %%
PREPARED = shutil.which("abo-vqa") is not None  # e.g. this cell has run before
if PREPARED:  # only the data may be missing
    run("dvc", "pull", "--quiet", "--remote", "sample", "data/raw/sample", "models/sample")
    if not Path("data/raw/abo").is_dir():
        Path("data/raw/abo").mkdir()
        run("dvc", "commit", "--quiet", "--force", "data.dvc")
else:
    fits = run(sys.executable, "tools/notebooks/torch_fits.py", check=False) == 0
    # By uv, since Colab's Python can't make environments itself.
    run(sys.executable, "-m", "pip", "install", "--quiet", "uv")
    isolate = ["--system-site-packages"] if fits else []
    uv = (sys.executable, "-m", "uv")
    run(*uv, "venv", "--quiet", *isolate, "--python", sys.executable, ".venv")
    run(*uv, "pip", "install", "--quiet", "--python", ".venv/bin/python", "uv")
    backend = "system" if fits else "auto"
    run("make", "setup", f"TORCH_BACKEND={backend}", "EXTRAS=quant,scale")

# %% [markdown]
# ## Settings
#
# The profile `t4` is the study's, with batches that fit 16 GB, LLaVA in 8 bits, and float16: a T4
# has no bfloat16. `abo-vqa doctor` says what this machine has, and what is missing.


# %%
def set_parameter(name, value):
    """Change a setting in params.yaml, whose comments stay."""
    file = Path("params.yaml")
    text, count = re.subn(rf"(?m)^( *{name}:) [^\s#]+", rf"\1 {value}", file.read_text())
    assert count == 1, f"{name} is in params.yaml {count} times"
    file.write_text(text)


if PROFILE != "sample":  # whose settings are those of params.yaml
    set_parameter("profile", PROFILE)
    set_parameter("annotator", ANNOTATOR)
    set_parameter("fraction", FRACTION)
GPUS = len(glob.glob("/dev/nvidia[0-9]*"))
PROCESSES = PROCESSES or max(1, GPUS)
if PROCESSES > 1:
    set_parameter("engine", "ray")  # a worker for each GPU; local: one process for all
print(f"profile {PROFILE}, {GPUS} GPU(s), {PROCESSES} process(es)")
if not PREPARED:
    run("abo-vqa", "doctor", "--quick", check=False)

# %% [markdown]
# ## Fetch
#
# The archives (3.1 GB) into the checkout; hard links keep DVC's cache from holding them twice.
# Weights come from the model hub when a stage first needs them: 35 GB for all five models and the
# scorers. Both are on the machine's own disk, and fetched again in each session, in minutes.

# %%
if PROFILE != "sample":
    run("dvc", "config", "--local", "cache.type", "hardlink,copy")
    run("abo-vqa", "fetch")
for place in {CHECKOUT, str(Path(SAVED).anchor)}:
    print(f"{shutil.disk_usage(place).free / 1e9:.1f} GB free at {place}")

# %% [markdown]
# ## Continue
#
# If an earlier session saved its work, it is restored: finished stages, answers and checkpoints.

# %% [markdown] tags=["kaggle"]
# On Kaggle that is the output of an earlier version of this notebook: *Add Input* → *Your Work* →
# this notebook.

# %%
saves = {Path(found) for found in [SAVED, *glob.glob(FORMER, recursive=True)]}
saves = [folder for folder in saves if (folder / "session.json").is_file()]
newest = max(
    saves,
    key=lambda folder: json.loads((folder / "session.json").read_text())["saved_at"],
    default=None,
)
if newest is None:
    print("no earlier session: starting from the beginning")
else:
    run("abo-vqa", "session", "restore", newest)

# %% [markdown]
# ## Run
#
# DVC runs what isn't done yet. Work is saved every ten minutes and at the end; when the time is
# over, training writes a checkpoint and everything stops. If the machine itself dies, at most ten
# minutes of answers are lost, or fifteen of training.
#
# With two GPUs, the models' answers and vision outputs come from a Ray worker on each, and
# fine-tuning runs in two processes, whose results DVC then records.

# %%
TIME_IS_OVER = 75


def step(*words):
    """Run a command under the session's clock; False if the time is over."""
    left = max(0.01, HOURS - (time.monotonic() - BEGAN) / 3600)
    options = ["--hours", f"{left:.3f}", "--every", EVERY]
    options += ["--embeddings"] if EMBEDDINGS else []
    code = run("abo-vqa", "session", "run", *options, SAVED, *words, check=False)
    if code not in (0, TIME_IS_OVER):
        raise RuntimeError(f"{' '.join(words)} ended with {code}; see above")
    return code == 0


def finetune_is_due():
    """Tell whether the adapter has to be trained."""
    return "finetune" in json.loads(output("dvc", "status", "--json"))


def pipeline():
    """Run what isn't done yet; False if the time is over."""
    if PROCESSES > 1 and finetune_is_due():
        launcher = ("torchrun", "--standalone", "--nproc-per-node", PROCESSES)
        trained = step("dvc", "repro", "embed") and step(
            *launcher, "src/abo_vqa/__main__.py", "finetune"
        )
        if not trained:
            return False
        run("dvc", "commit", "--force", "finetune")
    return step("dvc", "repro")


FINISHED = pipeline()
if not FINISHED:
    print(f"\nThe time is over, and everything is in {SAVED}. Start another session to continue.")

# %% [markdown]
# ## Results
#
# Every model on the same test rows: exact match, its gain over the best baseline that never sees an
# image, and the 95% interval.

# %%
from IPython.display import Image, Markdown, display

if FINISHED:
    display(Markdown(output("abo-vqa", "show", "--markdown")))

# %%
FIGURES = ("models", "gain-over-blind", "question-types", "training-loss", "learning-curve")
for figure in FIGURES if FINISHED else ():
    file = Path("reports/figures", f"{figure}.png")
    if file.is_file():
        display(Markdown(f"**{figure.replace('-', ' ').capitalize()}**"), Image(str(file)))

# %% [markdown]
# The curves that MLflow has of the last training, also of one that isn't finished:

# %%
import matplotlib.pyplot as plt

curves = json.loads(output("python", "tools/notebooks/curves.py"))
if curves:
    figure, axes = plt.subplots(1, len(curves), figsize=(4.5 * len(curves), 3))
    for axis, (name, points) in zip(figure.axes, curves.items(), strict=True):
        axis.plot(*zip(*points, strict=True))
        axis.set(title=name.replace("_", " "), xlabel="optimiser step")
    figure.tight_layout()
    display(figure)
    plt.close(figure)
else:
    print("MLflow has no training yet")

# %% [markdown]
# ## Next
#
# - The whole report is `reports/report.html`, every prediction is in `reports/browser.html`.
# - Other settings: `dvc exp run -S lora.r=8`, then `dvc exp show`. What doesn't depend on them
#   isn't run again.
# - More rows: raise `FRACTION`; the models are asked again, the adapter stays.
# - Other models, your own catalogue, questions by a model of your own: `docs/experiments.md`,
#   `docs/data.md`, `docs/generation.md`.

# %% tags=["kaggle"]
if FINISHED and Path(SAVED).is_dir():  # beside the session, to be downloaded from the Output panel
    report = Path(SAVED).with_name("abo-vqa-report")
    shutil.copytree("reports", report, dirs_exist_ok=True)
    print(f"{report}: report.html, browser.html")

# %% tags=["colab"]
if FINISHED and Path(SAVED).is_dir():  # beside the session, to be opened from Drive
    report = Path(SAVED).with_name("abo-vqa-report")
    shutil.copytree("reports", report, dirs_exist_ok=True)
    print(f"{report}: report.html, browser.html")
