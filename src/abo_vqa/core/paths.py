"""Where the pipeline's files are, relative to the repository's root. dvc.yaml names the same."""

from pathlib import Path

DATA = Path("data")
REPORTS = Path("reports")

PROFILES = Path("conf/profiles")
DATA_DVC = Path("data.dvc")  # pins the archives
SAMPLE_DATA = DATA / "raw/sample"
SAMPLE_MODELS = Path("models/sample")

# curate
BALANCED = DATA / "balanced.csv"
TYPES = DATA / "types.csv"
FUNNEL = DATA / "funnel.json"
# generate
GENERATED = DATA / "generated.csv"
REJECTS = DATA / "rejects.csv"
REVIEWED = DATA / "reviewed.csv"
GENERATION = DATA / "generate.json"
# vectors
VECTORS = DATA / "vectors"  # a folder for each model
# verify
VQA = DATA / "vqa.csv"
VERIFIERS = DATA / "verifiers.json"
OPINIONS = DATA / "opinions.csv"
VERIFICATION = DATA / "verification.json"
# split
TRAIN = DATA / "train.csv"
TEST = DATA / "test.csv"
AUDIT = DATA / "audit.json"
# embed, inputs
EMBEDDINGS = DATA / "embeddings"  # a folder for each model
INPUTS = DATA / "inputs"
# baseline
BASELINES = REPORTS / "baselines"
BLIND = BASELINES / "blind"
BLIND_FITS = BLIND / "fits.json"
# finetune, predict
ADAPTER = Path("models/adapter")
TRAINING = REPORTS / "training.json"
FINETUNED_MODEL = "finetuned"  # its name among the models
FINETUNED_RANKED = "finetuned-ranked"  # the same model, choosing among train's answers
FINETUNED_MODELS = (FINETUNED_MODEL, FINETUNED_RANKED)
FINETUNED = REPORTS / FINETUNED_MODEL
# evaluate
SCORES = REPORTS / "scores"
METRICS = REPORTS / "metrics.json"
EVALUATION = REPORTS / "evaluation.json"
# report
REPORT = REPORTS / "report.html"
REPORT_MARKDOWN = REPORTS / "report.md"
REPORT_PDF = REPORTS / "report.pdf"
BROWSER = REPORTS / "browser.html"
BROWSER_DATA = REPORTS / "browser"
FIGURES = REPORTS / "figures"
CARDS = REPORTS / "cards"
THUMBNAILS = REPORTS / "thumbnails"
# commands beside the pipeline
EXPORT = DATA / "export"
MERGED = Path("models/merged")
CHOICES = REPORTS / "choices"
SEEDS = REPORTS / "seeds"
SWEEP = REPORTS / "sweep"

# What stages write, and DVC removes before they run: as an input it would be gone, or feed itself.
OUTPUTS = (
    *(BALANCED, TYPES, FUNNEL, GENERATED, REJECTS, REVIEWED, GENERATION, VECTORS, VERIFIERS),
    *(OPINIONS, VQA, VERIFICATION, TRAIN, TEST, AUDIT, EMBEDDINGS, INPUTS, BASELINES, ADAPTER),
    *(TRAINING, FINETUNED, SCORES, EVALUATION, METRICS, REPORT, REPORT_MARKDOWN, BROWSER),
    *(BROWSER_DATA, FIGURES, CARDS, THUMBNAILS),
)


def is_output(path: Path) -> bool:
    """Whether a stage writes a file or folder, or what it is in.

    Args:
        path: it needn't exist; a link in its place isn't followed.
    """
    place = _place(path)
    return any(place.is_relative_to(_place(output)) for output in OUTPUTS)


def _place(path: Path) -> Path:
    """Where a path is: its folder may be a link, and DVC may link a file to its cache."""
    return path.parent.resolve() / path.name


def embeddings_of(model: str) -> Path:
    """The folder of a model's vision outputs."""
    return EMBEDDINGS / model


def vectors_of(model: str) -> Path:
    """The folder of a model's vectors, one per image."""
    return VECTORS / model


def predictions_of(model: str) -> Path:
    """The table of a model's answers; a blind baseline's name starts with "blind-"."""
    if model.startswith("blind-"):
        folder = BLIND / model.removeprefix("blind-")
    elif model == FINETUNED_RANKED:
        return FINETUNED / "ranked.csv"
    else:
        folder = FINETUNED if model == FINETUNED_MODEL else BASELINES / model
    return folder / "predictions.csv"


def scores_of(model: str) -> Path:
    """The table of a model's metrics, one row per test row."""
    return SCORES / f"{model}.parquet"
