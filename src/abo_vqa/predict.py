"""One model's answers to every row, in the study's sampling order: a fraction is a prefix."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.answering import answer_rows, collect
from abo_vqa.config import load_config
from abo_vqa.errors import UserError
from abo_vqa.io import (
    file_md5,
    fingerprint,
    own_code,
    read_table,
    scratch,
    write_json,
    write_table,
)
from abo_vqa.locks import discard, locked
from abo_vqa.memory import peak_memory
from abo_vqa.models import FAMILIES, checkpoint_of, load_model, weights_key
from abo_vqa.models.adapters import Adapter
from abo_vqa.picture_sources import Files, Once, Pictures, Stored
from abo_vqa.processes import how_many, launch, rank_and_world, refused, supervised, terminable
from abo_vqa.stage import Log, Summary, execute, no_log, pin_threads

if TYPE_CHECKING:
    from abo_vqa.config import Config
    from abo_vqa.models.base import VQAModel

VQA = Path("data/vqa.csv")
TRAIN = Path("data/train.csv")
EMBEDDINGS = Path("data/embeddings")
ADAPTER = Path("models/adapter")
REPORTS = Path("reports/baselines")
# What answers depend on, of src/abo_vqa; also in dvc.yaml.
CODE = (
    "answering.py", "archive.py", "batching.py", "embedding_store.py", "metrics/normalise.py",
    "models", "picture_sources.py", "pictures.py", "predict.py", "questions.py",
)  # fmt: skip


def sampled(table: pd.DataFrame, seed: int, fraction: float) -> pd.DataFrame:
    """Rows in one random order, of which any smaller fraction is a prefix.

    Returns:
        Columns row_id (0-based position in `table`), image_path, question.
    """
    rows = table[["image_path", "question"]].copy()
    rows.insert(0, "row_id", range(len(rows)))
    shuffled = rows.sample(frac=1, random_state=seed)
    return shuffled.head(int(len(rows) * fraction)).reset_index(drop=True)


def candidates_for(name: str, config: Config) -> list[str] | None:
    """CLIP's candidate answers: the fixed list, the train split's answers, or everybody's.

    `clip-all` knows the answers of the test rows, as in the study; `clip-train` doesn't.
    """
    source = {
        "clip-fixed": config.baselines.answers,
        "clip-train": TRAIN,
        "clip-all": VQA,
    }.get(name)
    if source is None:
        return None
    if source.suffix == ".txt":
        lines = source.read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    answers = read_table(source, ["answer"])["answer"]
    return sorted({a.strip().lower() for a in answers} - {""})


def pictures_for(
    name: str, config: Config, rows: pd.DataFrame, model: VQAModel, stack: ExitStack
) -> Pictures:
    """Stored vision outputs where there are some that fit, else the archive's pictures."""
    from abo_vqa.archive import open_archive

    if name == "blip" and (store := fitting_store(config)):
        return store
    files = Files(stack.enter_context(open_archive(config.data.raw)).image)
    if model.groups_by == "question":
        return Once(files, rows["image_path"].tolist(), block=64)
    return files


def pictures_state(name: str, config: Config, rows: pd.DataFrame) -> Any:
    """What tells the pictures behind answers from others under the same names, for `journal_key`.

    Args:
        name: as in `pictures_for`.
    """
    from abo_vqa.archive import open_archive

    if name == "blip" and (stored := fitting_store(config)):
        return dict(stored.store.meta)
    with open_archive(config.data.raw) as archive:
        return archive.sizes(rows["image_path"])


def fitting_store(config: Config) -> Stored | None:
    """The stage `embed`'s vision outputs as a source of pictures, or None if they don't fit."""
    from abo_vqa.embedding_store import EmbeddingStore

    if not (EMBEDDINGS / "vectors.npy").is_file():
        return None
    store = EmbeddingStore.open(EMBEDDINGS)
    return Stored(store) if store.matches(config) else None


def journal_key(name: str, config: Config, rows: pd.DataFrame, more: Any = None) -> str:
    """A fingerprint of all that determines the answers: weights, settings, rows, our own code.

    Neither batch sizes nor the device are in it, which change no more than rounding: what was
    answered before memory ran out stays valid after one of them was changed.
    """
    from abo_vqa.models.loading import identity

    checkpoint = checkpoint_of(name, config)
    return fingerprint(
        [
            name,
            checkpoint.determining(),
            identity(checkpoint),
            config.compute.dtype,
            config.embed.dtype,
            config.threads,
            own_code(CODE),
            rows[["row_id", "image_path", "question"]].astype(str).values.tolist(),
            more,
        ]
    )


def predict_rows(
    model: VQAModel,
    rows: pd.DataFrame,
    pictures: Pictures,
    journal_folder: Path,
    size: int = 64,
    weights: str = "<name>",
) -> pd.DataFrame:
    """Answer rows with a loaded model; what the journal holds already isn't asked again.

    Args:
        rows: columns row_id, image_path, question.
        size: rows a batch at most.
        weights: the model's key under `models`.
    Returns:
        Columns row_id, prediction, confidence, error, in the order of `rows`.
    """
    answer_rows(model, rows, pictures, journal_folder, size, weights=weights)
    predictions = collect(rows, journal_folder)
    assert predictions is not None
    return predictions


def predict_finetuned(config: Config, test: pd.DataFrame) -> pd.DataFrame:
    """Answers of BLIP with models/adapter to rows (row_id, image_path, question)."""
    adapter = Adapter.read(ADAPTER)
    with ExitStack() as stack:
        folder = stack.enter_context(locked(finetuned_folder(config, test)))
        model = load_model("blip", config, adapter=ADAPTER)
        pictures = pictures_for(source_for(adapter), config, test, model, stack)
        size = config.models.blip.batch_size
        return predict_rows(model, test, pictures, folder, size, "blip")


def finetuned_folder(config: Config, test: pd.DataFrame) -> Path:
    """The journal of `predict_finetuned`; the stage removes it when it has ended."""
    weights = [file_md5(file) for file in sorted(ADAPTER.glob("adapter_*"))]
    more = [weights, pictures_state(source_for(Adapter.read(ADAPTER)), config, test)]
    return scratch("finetuned", journal_key("blip", config, test, more))


def source_for(adapter: Adapter) -> str:
    """Whose pictures BLIP with an adapter sees, as `pictures_for` calls it: kept vision outputs
    are the base's, and of no use if the adapter changes the vision tower."""
    return "finetuned" if adapter.changes_vision else "blip"


def answer_share(name: str, config: Config, job: Job) -> tuple[dict[str, Any], dict[str, float]]:
    """Answer this process's share of the rows into the journal.

    Returns:
        The model's record; how long loading it took; and, on a GPU, the bytes of its memory that
        were held at most.
    """
    began = time.perf_counter()
    model = load_model(name, config, **job.options)
    found = {"load_seconds": time.perf_counter() - began}
    rank, world = rank_and_world()
    with ExitStack() as stack:
        pictures = pictures_for(name, config, job.rows, model, stack)
        size = checkpoint_of(name, config).batch_size
        answer_rows(model, job.rows, pictures, job.folder, size, rank, world, weights_key(name))
    if model.device.type == "cuda":
        found["peak_gpu_bytes"] = float(peak_memory(model.device))
    return model.record(), found


@dataclass(frozen=True)
class Job:
    """What a baseline has to answer, and where its journals are."""

    rows: pd.DataFrame
    options: dict[str, Any]
    folder: Path

    @classmethod
    def of(cls, name: str, config: Config) -> Job:
        table = read_table(VQA, ["image_path", "question"])
        rows = sampled(table, config.seed, config.baselines.fraction)
        candidates = candidates_for(name, config)
        options = {} if candidates is None else {"candidates": candidates}
        more = [options, pictures_state(name, config, rows)]
        folder = scratch(f"baseline-{name}", journal_key(name, config, rows, more))
        return cls(rows, options, folder)


def run_model(name: str, config: Config) -> Summary:
    """Write reports/baselines/<name>/predictions.csv."""
    summary = answer_all(name, config)
    summary.cleanup()
    return summary


def answer_all(name: str, config: Config) -> Summary:
    """`run_model`, with the journal left to the summary's cleanup.

    With several processes, this is the first one: it does its share and waits for the others'.
    """
    began = time.perf_counter()
    job = Job.of(name, config)
    record: dict[str, Any] = {}
    measured: dict[str, float] = {}
    with locked(job.folder):
        if collect(job.rows, job.folder) is None:
            record, measured = answer_share(name, config, job)
        while (predictions := collect(job.rows, job.folder)) is None:
            if refused():
                raise UserError(f"{name}: some rows are missing, whose process stopped.")
            time.sleep(1)
    out = write_table(predictions, REPORTS / name / "predictions.csv")
    failed = int((predictions["error"] != "").sum())
    rows = len(predictions)
    return Summary(
        f"{name}: {rows} rows → {out}" + (f"; {failed} without an answer" if failed else ""),
        metrics={
            "rows": rows,
            "failed": failed,
            "empty": int((predictions["prediction"] == "").sum()) - failed,
            "rows_per_second": rows / (time.perf_counter() - began),
            **measured,
        },
        params=record,
        datasets={"questions": VQA},
        artifacts=(out,),
        cleanup=partial(discard, job.folder),
    )


def run_blind(config: Config) -> Summary:
    """Write reports/baselines/blind/<variant>/predictions.csv for each blind baseline."""
    from abo_vqa.models.blind import VARIANTS, ended, one_spelling

    rows = sampled(
        read_table(VQA, ["image_path", "question"]), config.seed, config.baselines.fraction
    )
    train = read_table(TRAIN, ["question", "answer"])
    questions, answers = one_spelling(train["question"].tolist(), train["answer"].tolist())
    if not answers:
        raise UserError(f"{TRAIN} has no answer to learn from. Run `dvc repro split`.")
    written: list[Path] = []
    fits: dict[str, dict[str, bool]] = {}
    for variant, fit in VARIANTS.items():
        predictor = fit(questions, answers)
        fits[variant] = {"ended": ended(predictor)}
        said, confidence = predictor(rows["question"].tolist())
        table = pd.DataFrame(
            {
                "row_id": rows["row_id"],
                "prediction": said,
                "confidence": [f"{c:.6f}" for c in confidence],
                "error": "",
            }
        )
        written.append(write_table(table, REPORTS / "blind" / variant / "predictions.csv"))
    written.append(write_json(fits, REPORTS / "blind" / "fits.json"))
    unfinished = [variant for variant, found in fits.items() if not found["ended"]]
    said_more = f"\nunfinished fits: {', '.join(unfinished)}" if unfinished else ""
    return Summary(
        f"blind: {len(rows)} rows → {REPORTS / 'blind'}/{{{','.join(VARIANTS)}}}{said_more}",
        metrics={"rows": len(rows)},
        params={"fitted_on": str(TRAIN), "unfinished_fits": ", ".join(unfinished) or "none"},
        datasets={"training": TRAIN},
        artifacts=tuple(written),
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    names = [*FAMILIES, "blind"]
    parser.add_argument("--model", required=True, choices=names, help="whose answers")
    parser.add_argument(
        "--processes",
        type=how_many,
        default=1,
        help="share the rows among so many processes, one a GPU; the output is the same",
    )


def command(args: argparse.Namespace) -> int:
    if args.processes > 1 and args.model != "blind":
        Job.of(args.model, load_config())  # a mistake is told once, not by every process
        return launch(args.processes, ["baseline", "--model", args.model])
    if rank_and_world()[0] > 0:
        return help_out(args.model)

    def run(config: Config, log: Log = no_log) -> Summary:
        return run_blind(config) if args.model == "blind" else answer_all(args.model, config)

    return execute(f"baseline@{args.model}", run)


def help_out(name: str) -> int:
    """What processes other than the first do: their share, and no more."""
    config = load_config()
    pin_threads(config.threads)
    if name == "blind":
        return 0
    job = Job.of(name, config)
    with terminable(), supervised(), locked(job.folder, rank_and_world()[0]):
        if collect(job.rows, job.folder) is None:
            answer_share(name, config, job)
    return 0
