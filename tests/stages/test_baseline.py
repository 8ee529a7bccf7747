"""The stage `baseline`: order, failures, interruptions, memory, several processes."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import ADAPTER
from abo_vqa.core.tables import read_table
from abo_vqa.data.image_files import ImageError
from abo_vqa.models.answering import journal
from abo_vqa.models.answering.batches import form_batches
from abo_vqa.models.answering.journal import Journal, collect
from abo_vqa.models.answering.runner import answer_rows
from abo_vqa.models.answering.sampling import sample_rows
from abo_vqa.models.base import Answer, VQAModel
from abo_vqa.models.candidates import candidates_for
from abo_vqa.models.embeddings.encodings import stored_encodings
from abo_vqa.models.sources import ImageFiles
from abo_vqa.stages import baseline as stage
from tests.support import ROOT
from tests.support import models as tiny
from tests.support.stages import answer_with_adapter, run_stage

SCRIPT = ROOT / "src/abo_vqa/__main__.py"
BLIP = Path("reports/baselines/blip/predictions.csv")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    return tiny.workspace(root, "blip", "clip", "vilt", images=10, broken=1)


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    return project


def settings(root: Path, **changes: object):
    """The configuration with some of params.yaml's lines replaced."""
    lines = (root / "params.yaml").read_text().splitlines()
    for key, value in changes.items():
        lines = [
            f"{line[: len(line) - len(line.lstrip())]}{key}: {value}"
            if line.lstrip().startswith(f"{key}:")
            else line
            for line in lines
        ]
    changed = root / "changed.yaml"
    changed.write_text("\n".join(lines) + "\n")
    return load_config(changed)


class Echo(VQAModel):
    """Answers with the question's length and the picture's colour; counts what it is given.

    Raises torch's out-of-memory error for batches larger than `room`, as a GPU would.
    """

    device = torch.device("cpu")

    def __init__(self, room: int = 10**9) -> None:
        self.room = room
        self.sizes: list[int] = []
        self.prepared: list[int] = []
        self.seen: list[int] = []

    def preprocess(self, pictures):
        self.prepared += [picture.getpixel((0, 0))[0] for picture in pictures]
        return list(pictures)

    def encode(self, prepared):
        found = [picture.getpixel((0, 0))[0] for picture in prepared]
        self.seen += found
        return found

    def predict_answers(self, encoded, which, questions):
        if len(questions) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        self.sizes.append(len(questions))
        return [
            Answer(f"{len(q)}-{encoded[at]}", 0.5) for at, q in zip(which, questions, strict=True)
        ]

    def record(self):
        return {}


def rows_of(count: int) -> pd.DataFrame:
    """Three questions a picture; pictures are numbers."""
    return pd.DataFrame(
        {
            "row_id": range(count),
            "image_path": [f"{i // 3:03d}" for i in range(count)],
            "question": ["what?" * (1 + i % 4) for i in range(count)],
        }
    )


def painted(path: str):
    from PIL import Image

    if path == "002":
        raise ImageError(path, "damaged")
    return Image.new("RGB", (2, 2), (int(path), 0, 0))


def painted_any(path: str):
    """Pictures of which none is damaged, in 256 colours that repeat."""
    from PIL import Image

    return Image.new("RGB", (2, 2), (int(path) % 256, 0, 0))


def expected(rows: pd.DataFrame) -> list[str]:
    return [
        "" if path == "002" else f"{len(q)}-{int(path)}"
        for path, q in zip(rows["image_path"], rows["question"], strict=True)
    ]


# --- rows, batches, order ----------------------------------------------------------------------


def test_order_is_the_studys_and_fractions_are_prefixes() -> None:
    table = pd.DataFrame({"image_path": "p", "question": [f"q{i}" for i in range(1000)]})
    whole = sample_rows(table, 42, 1.0)
    assert sorted(whole["row_id"]) == list(range(1000))
    assert list(whole["row_id"]) == list(table.sample(frac=1, random_state=42).index)
    for fraction in (0.02, 0.25, 0.5):
        part = sample_rows(table, 42, fraction)
        assert len(part) == int(1000 * fraction)
        pd.testing.assert_frame_equal(part, whole.head(len(part)))
    assert (whole["question"] == [f"q{i}" for i in whole["row_id"]]).all()


def test_batches_keep_a_pictures_questions_together() -> None:
    keys = [f"{i % 7}" for i in range(21)]
    formed = form_batches(keys, 8)
    assert sorted(i for batch in formed for i in batch) == list(range(21))
    assert max(map(len, formed)) <= 8
    for key in set(keys):
        assert sum(any(keys[i] == key for i in batch) for batch in formed) == 1


def test_a_group_larger_than_a_batch_is_cut() -> None:
    formed = form_batches(["a"] * 5 + ["b"], 2)
    assert [len(batch) for batch in formed] == [2, 2, 2]
    assert sorted(i for batch in formed for i in batch) == list(range(6))


# --- failures ----------------------------------------------------------------------------------


def test_an_unreadable_picture_is_an_error_and_not_an_answer(tmp_path: Path) -> None:
    rows = rows_of(15)
    answer_rows(Echo(), rows, ImageFiles(painted), tmp_path, 6, "echo")
    table = collect(rows, tmp_path)
    assert table["prediction"].tolist() == expected(rows)
    assert table["error"].tolist() == ["damaged" if p == "002" else "" for p in rows["image_path"]]
    assert set(table.loc[table["error"] != "", "confidence"]) == {""}


@pytest.mark.parametrize("rank", [0, 1])
def test_progress_ends_at_the_total(tmp_path: Path, capsys, rank: int) -> None:
    """The first of two processes has two of three batches, and counts the other's as many."""
    rows = rows_of(15)
    answer_rows(Echo(), rows, ImageFiles(painted), tmp_path, 6, "echo", rank, world_size=2)
    last = capsys.readouterr().err.rpartition("\r")[2]
    assert ("15/15" in last and last.endswith("\n")) if rank == 0 else last == ""


def test_out_of_memory_halves_the_batch_and_goes_on(tmp_path: Path) -> None:
    rows = rows_of(48)
    model = Echo(room=5)
    answer_rows(model, rows, ImageFiles(painted), tmp_path, 24, "echo")
    assert collect(rows, tmp_path)["prediction"].tolist() == expected(rows)
    # 24 fails, 12 fails, 6 may fail, 3 fits: the limit is remembered, not found anew each batch.
    assert max(model.sizes) <= 5
    assert len(model.sizes) <= 20


def test_a_moments_shortage_doesnt_slow_the_rest(tmp_path: Path) -> None:
    rows = rows_of(480)
    model = Echo(room=6)
    write = model.predict_answers

    def recovering(*args):
        if len(model.sizes) == 10:
            model.room = 24
        return write(*args)

    model.predict_answers = recovering
    answer_rows(model, rows, ImageFiles(painted), tmp_path, 24, "echo")
    assert collect(rows, tmp_path)["prediction"].tolist() == expected(rows)
    assert max(model.sizes[:10]) <= 6
    assert max(model.sizes) == 24


def test_a_card_that_is_too_small_costs_few_lost_batches(tmp_path: Path, capsys) -> None:
    rows = rows_of(6000)
    answer_rows(Echo(room=6), rows, ImageFiles(painted_any), tmp_path, 24, "echo")
    assert capsys.readouterr().err.count("out of memory") <= 10


def test_the_rows_of_a_batch_arent_moved_by_a_shortage(tmp_path: Path) -> None:
    """Whatever memory did before, a batch that fits is answered whole, with the same rows."""
    rows = rows_of(480)

    class Recording(Echo):
        def predict_answers(self, encoded, which, questions):
            found = super().predict_answers(encoded, which, questions)
            together.append([a.text for a in found])
            return found

    together: list[list[str]] = []
    answer_rows(Recording(), rows, ImageFiles(painted_any), tmp_path, 24, "echo")
    usual = list(together)
    together.clear()
    (tmp_path / "other").mkdir()
    model = Recording(room=6)
    short = model.predict_answers

    def recovering(*args):
        if len(together) == 10:
            model.room = 24
        return short(*args)

    model.predict_answers = recovering
    answer_rows(model, rows, ImageFiles(painted_any), tmp_path / "other", 24, "echo")
    whole = [batch for batch in together if len(batch) == 24]
    assert len(whole) >= 5
    assert all(batch in usual for batch in whole)


def test_pictures_arent_read_again_for_every_part(tmp_path: Path) -> None:
    """Prepared once for the batch; seen once more only where memory ran out on them."""
    rows = rows_of(24)
    read = []

    def counted(path: str):
        read.append(path)
        return painted_any(path)

    model = Echo(room=6)
    answer_rows(model, rows, ImageFiles(counted), tmp_path, 24, "echo")
    assert sorted(read) == sorted(set(rows["image_path"]))
    assert len(model.prepared) == 8
    assert len(model.seen) == 8 + 4 + 8  # 24 rows in vain, 12 in vain, then 6 at a time


def test_one_pictures_many_questions_see_it_once(tmp_path: Path) -> None:
    rows = rows_of(24).assign(image_path="005")
    model = Echo(room=6)
    answer_rows(model, rows, ImageFiles(painted), tmp_path, 24, "echo")
    assert len(model.sizes) == 4
    assert len(model.seen) == 1 + 1 + 1


def test_a_card_on_which_nothing_fits_stops_the_stage_at_once(tmp_path: Path) -> None:
    rows = rows_of(300)
    model = Echo(room=0)
    with pytest.raises(
        UserError, match=r"8 rows in a row .*for models\.llava in the profile: quantize: 8bit"
    ):
        answer_rows(model, rows, ImageFiles(painted_any), tmp_path, 24, checkpoint_key="llava")
    assert Journal(tmp_path).read() == {}
    assert len(set(model.prepared)) <= 16  # of 100: this batch's pictures and the next one's


def test_rows_that_dont_fit_arent_journaled_and_the_others_are_kept(tmp_path: Path) -> None:
    rows = rows_of(60)

    class Small(Echo):
        small = True

        def predict_answers(self, encoded, which, questions):
            if self.small and any(len(q) > 15 for q in questions):
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().predict_answers(encoded, which, questions)

    model = Small()
    failing = [r for r, q in zip(rows["row_id"], rows["question"], strict=True) if len(q) > 15]
    failing = [r for r in failing if rows["image_path"][r] != "002"]
    with pytest.raises(
        UserError,
        match=rf"{len(failing)} row\(s\) didn't fit even one at a time; the other",
    ):
        answer_rows(model, rows, ImageFiles(painted), tmp_path, 12, "echo")
    assert sorted(set(rows["row_id"]) - set(Journal(tmp_path).read())) == failing
    assert collect(rows, tmp_path) is None
    model.small = False
    model.sizes.clear()
    answer_rows(model, rows, ImageFiles(painted), tmp_path, 12, "echo")
    assert sum(model.sizes) == len(failing)
    assert collect(rows, tmp_path)["prediction"].tolist() == expected(rows)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_memory_that_runs_out_while_reading_ahead_is_survived(tmp_path: Path, error) -> None:
    """Read in the background it doesn't fit, a part at a time it does."""
    rows = rows_of(48)

    class Greedy(Echo):
        def preprocess(self, pictures):
            if len(pictures) > 2:
                raise error
            return super().preprocess(pictures)

    answer_rows(Greedy(), rows, ImageFiles(painted_any, threads=1), tmp_path, 24, "echo")
    assert collect(rows, tmp_path)["error"].tolist() == [""] * 48


def test_the_stage_fails_where_memory_does(here: Path, monkeypatch) -> None:
    """It used to end well, with every row "out of memory" and an accuracy of 0."""
    from abo_vqa.models.vilt import Vilt

    def full(*_):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")

    out = Path("reports/baselines/vilt/predictions.csv")
    out.unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(Vilt, "predict_answers", full)
        with pytest.raises(UserError, match=r"models\.vilt .*quantize"):
            run_stage(stage, load_config(), model="vilt")
    assert not out.exists()
    assert (
        run_stage(stage, load_config(), model="vilt").metrics["failed"] == 3
    )  # the broken picture's


@pytest.mark.parametrize("threads", [2, 5])
def test_any_number_of_threads_prepares_the_same(threads: int) -> None:
    paths = [f"{i:03d}" for i in range(40)]
    model = Echo()
    alone = ImageFiles(painted, threads=1).load(model, paths)
    shared = ImageFiles(painted, threads=threads).load(model, paths)
    assert (alone.index, alone.errors) == (shared.index, shared.errors)
    assert [i.getpixel((0, 0)) for i in alone.values] == [i.getpixel((0, 0)) for i in shared.values]


def test_a_bug_isnt_taken_for_a_failed_row(tmp_path: Path) -> None:
    class Broken(Echo):
        def predict_answers(self, encoded, which, questions):
            raise RuntimeError("shapes don't match")

    with pytest.raises(RuntimeError, match="shapes"):
        answer_rows(Broken(), rows_of(3), ImageFiles(painted), tmp_path, 3, "echo")


# --- interruptions -----------------------------------------------------------------------------


def test_resume_asks_only_what_is_missing(tmp_path: Path) -> None:
    rows = rows_of(30)
    whole = tmp_path / "whole"
    whole.mkdir()
    answer_rows(Echo(), rows, ImageFiles(painted), whole, 6, "echo")
    lines = (whole / "answers-0.jsonl").read_bytes().splitlines(keepends=True)
    torn = tmp_path / "torn"
    torn.mkdir()
    # Killed in the middle of the third line.
    (torn / "answers-0.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:20])
    assert collect(rows, torn) is None
    model = Echo()
    answer_rows(model, rows, ImageFiles(painted), torn, 6, "echo")
    assert sum(model.sizes) == 30 - 12 - 0  # two of five batches were done (one picture is broken)
    pd.testing.assert_frame_equal(collect(rows, torn), collect(rows, whole))


@pytest.mark.parametrize("world", [2, 3])
def test_shares_make_the_same_whole(tmp_path: Path, world: int) -> None:
    rows = rows_of(40)
    for rank in reversed(range(world)):
        answer_rows(Echo(), rows, ImageFiles(painted), tmp_path, 6, "echo", rank, world)
    assert collect(rows, tmp_path)["prediction"].tolist() == expected(rows)
    sizes = [f.stat().st_size for f in tmp_path.glob("answers-*.jsonl")]
    assert len(sizes) == world
    assert min(sizes) > 0


@pytest.mark.parametrize("line", [b"\0\0\0", b"12", b"[1]", b"[[]]", b'{"a": 1}'])
def test_a_damaged_line_is_asked_again(tmp_path: Path, line: bytes) -> None:
    rows = rows_of(12)
    (tmp_path / "answers-0.jsonl").write_bytes(line + b"\n")
    answer_rows(Echo(), rows, ImageFiles(painted), tmp_path, 6, "echo")
    assert collect(rows, tmp_path)["prediction"].tolist() == expected(rows)


def test_line_breaks_dont_reach_the_table(tmp_path: Path) -> None:
    Journal(tmp_path).writer(0)([0, 1], [Answer("two\nlines", 0.123456789), Answer("", None, "x")])
    table = collect(pd.DataFrame({"row_id": [1, 0]}), tmp_path)
    assert table.values.tolist() == [[1, "", "", "x"], [0, "two lines", "0.123457", ""]]


def test_the_speed_counts_the_rows_of_this_run_only(here: Path, monkeypatch) -> None:
    def clock() -> SimpleNamespace:
        """Each look at it is a second later: beginning, loading begins, loading ends, end."""
        return SimpleNamespace(perf_counter=itertools.count().__next__, sleep=time.sleep)

    monkeypatch.setattr("abo_vqa.models.answering.baseline.time", clock())
    first = stage.run(load_config(), model="vilt")
    assert first.metrics["rows_per_second"] == 30 / 3
    (file,) = Path(".cache/abo-vqa/baseline-vilt").glob("*/answers-0.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0])
    monkeypatch.setattr("abo_vqa.models.answering.baseline.time", clock())
    resumed = stage.run(load_config(), model="vilt")
    assert resumed.metrics["rows_per_second"] == (30 - len(json.loads(lines[0]))) / 3
    assert "rows_per_second" not in run_stage(stage, load_config(), model="vilt").metrics


# --- the stage ---------------------------------------------------------------------------------


def test_stage_writes_every_row_in_order(here: Path) -> None:
    config = load_config()
    summary = run_stage(stage, config, model="blip")
    table = read_table(BLIP, journal.COLUMNS)
    vqa = read_table("data/vqa.csv")
    order = vqa.sample(frac=1, random_state=config.seed).index
    assert table["row_id"].astype(int).tolist() == list(order)
    failed = vqa.loc[table["row_id"].astype(int), "image_path"].to_numpy() == "00/00000009.jpg"
    assert (table["error"] != "").tolist() == failed.tolist()
    assert failed.sum() == 3
    assert summary.metrics["failed"] == 3
    assert summary.params["decoding"].startswith("greedy")
    confidence = table.loc[~failed, "confidence"].astype(float)
    assert confidence.between(0, 1).all()
    assert not list(Path(".cache/abo-vqa/baseline-blip").iterdir())


def test_stored_vision_gives_the_same_answers(here: Path) -> None:
    from abo_vqa.stages import embed

    config = load_config()
    run_stage(stage, config, model="blip")
    direct = BLIP.read_bytes()
    run_stage(embed, config)
    try:
        assert stored_encodings(config) is not None
        run_stage(stage, config, model="blip")
        assert BLIP.read_bytes() == direct
    finally:
        import shutil

        shutil.rmtree("data/embeddings")


def test_a_smaller_fraction_is_a_prefix(here: Path) -> None:
    run_stage(stage, load_config(), model="vilt")
    out = Path("reports/baselines/vilt/predictions.csv")
    whole = read_table(out)
    run_stage(stage, settings(here, fraction=0.5), model="vilt")
    part = read_table(out)
    assert len(part) == len(whole) // 2
    columns = ["row_id", "prediction", "error"]
    pd.testing.assert_frame_equal(part[columns], whole[columns].head(len(part)))


def test_finetuned_answers_are_the_adapted_librarys(here: Path) -> None:
    """Base, adapter and stored vision outputs against PEFT on the library's model, one by one."""
    import shutil

    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import BlipForQuestionAnswering, BlipProcessor

    from abo_vqa.data.archive import open_archive
    from abo_vqa.stages import embed

    config = load_config()
    with pytest.raises(UserError, match="run the stage `finetune`"):
        answer_with_adapter(config, read_table("data/test.csv"))
    base = BlipForQuestionAnswering.from_pretrained(config.models.blip.path)
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["query", "value"]))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    adapted.save_pretrained(ADAPTER)
    run_stage(embed, config)
    try:
        test = read_table("data/test.csv")
        table = answer_with_adapter(config, test)
        assert table["row_id"].tolist() == test["row_id"].astype(int).tolist()
        plain = BlipForQuestionAnswering.from_pretrained(config.models.blip.path)
        plain = PeftModel.from_pretrained(plain, ADAPTER).eval()
        processor = BlipProcessor.from_pretrained(config.models.blip.path)
        expected = []
        with open_archive(config.data.raw) as archive:
            for path, question in zip(test["image_path"], test["question"], strict=True):
                inputs = processor(archive.image(path), question, return_tensors="pt")
                ids = plain.generate(**inputs, max_new_tokens=10, do_sample=False)[0]
                expected.append(processor.decode(ids, skip_special_tokens=True).strip())
        assert table["prediction"].tolist() == expected
    finally:
        shutil.rmtree(ADAPTER)
        shutil.rmtree("data/embeddings")


def test_clips_candidates(here: Path) -> None:
    config = load_config()
    fixed = candidates_for("clip-fixed", config)
    assert len(fixed) >= 100
    assert len(set(fixed)) == len(fixed)
    assert {"yes", "no", "two", "black", "wood", "round", "left", "chair"} <= set(fixed)
    train = candidates_for("clip-train", config)
    everybody = candidates_for("clip-all", config)
    assert set(train) == set(read_table("data/train.csv")["answer"])
    assert set(everybody) == set(read_table("data/vqa.csv")["answer"])
    for name, candidates in (("clip-fixed", fixed), ("clip-train", train)):
        run_stage(stage, config, model=name)
        table = read_table(f"reports/baselines/{name}/predictions.csv")
        assert set(table.loc[table["error"] == "", "prediction"]) <= set(candidates)


def test_candidates_in_another_encoding_are_the_users_problem(here: Path, tmp_path: Path) -> None:
    file = tmp_path / "answers.txt"
    file.write_bytes("café\n".encode("latin-1"))
    config = load_config()
    baselines = config.baselines.model_copy(update={"answers": file})
    with pytest.raises(UserError, match=r"answers\.txt isn't UTF-8 text .*Save it in UTF-8"):
        candidates_for("clip-fixed", config.model_copy(update={"baselines": baselines}))


def test_blind_sees_train_only(here: Path) -> None:
    config = load_config()
    run_stage(stage, config, model="blind")
    train = read_table("data/train.csv")
    vqa = read_table("data/vqa.csv")
    for variant in ("majority", "type", "question", "ngram"):
        table = read_table(f"reports/baselines/blind/{variant}/predictions.csv")
        assert len(table) == len(vqa)
        assert set(table["prediction"]) <= set(train["answer"])
        assert (table["error"] == "").all()
    fits = json.loads(Path("reports/baselines/blind/fits.json").read_text())
    assert all(found["ended"] for found in fits.values())


def test_unknown_models_and_missing_weights_are_told_plainly(here: Path, capsys) -> None:
    from abo_vqa.models.registry import load_model

    config = load_config()
    with pytest.raises(UserError, match="Did you mean blip2"):
        load_model("blip-2", config)
    with pytest.raises(UserError, match="Its variants are clip-fixed, clip-train, clip-all"):
        load_model("clip", config)
    with pytest.raises(UserError, match=r"add `smolvlm: \{family: …, path"):
        load_model("smolvlm", config)
    gone = config.models.vilt.model_copy(update={"path": "models/gone"})
    models = config.models.model_copy(update={"vilt": gone})
    with pytest.raises(UserError, match="no folder of that name"):
        load_model("vilt", config.model_copy(update={"models": models}))


# --- the real thing, killed --------------------------------------------------------------------

SABOTAGE = """
import os, signal
marker = os.path.join({folder!r}, "died")
if os.environ.get("RANK", "0") == {rank!r} and "WORLD_SIZE" in os.environ or {alone!r}:
    real, count = os.fsync, [0]
    def fsync(handle):
        count[0] += 1
        if count[0] == {batch} and not os.path.exists(marker):
            open(marker, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        real(handle)
    os.fsync = fsync
"""


def baseline(root: Path, *options: str, saboteur: Path | None = None):
    """`abo-vqa baseline --model blip` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(saboteur or "")}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{root}/mlflow.db"
    command = [sys.executable, str(SCRIPT), "baseline", "--model", "blip", *options]
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def sabotage(folder: Path, rank: str, alone: bool, batch: int = 2) -> Path:
    """A folder for PYTHONPATH: a process kills itself (-9) while it journals a batch."""
    folder.mkdir()
    text = SABOTAGE.format(folder=str(folder), rank=rank, alone=alone, batch=batch)
    (folder / "sitecustomize.py").write_text(text)
    return folder


def test_killed_and_resumed_is_the_same_file(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from abo_vqa.models.blip.model import Blip

    run_stage(stage, load_config(), model="blip")
    whole = BLIP.read_bytes()
    BLIP.unlink()
    killed = baseline(here, saboteur=sabotage(tmp_path / "s", "0", alone=True))
    assert killed.returncode == -signal.SIGKILL
    assert not BLIP.exists()
    journals = list((here / ".cache/abo-vqa/baseline-blip").rglob("answers-*.jsonl"))
    assert sum(len(f.read_bytes().splitlines()) for f in journals) >= 1
    asked: list[int] = []
    say = Blip.predict_answers
    monkeypatch.setattr(
        Blip,
        "predict_answers",
        lambda self, *rows: asked.append(len(rows[1])) or say(self, *rows),
    )
    run_stage(stage, load_config(), model="blip")
    assert BLIP.read_bytes() == whole
    assert 0 < sum(asked) < len(read_table(BLIP))


def processes_one_dies(here: Path, tmp_path: Path, world: int) -> None:
    run_stage(stage, load_config(), model="blip")
    whole = BLIP.read_bytes()
    BLIP.unlink()
    # Four batches: the last of three processes has only one.
    batch = 2 if world == 2 else 1
    saboteur = sabotage(tmp_path / "s", str(world - 1), alone=False, batch=batch)
    done = baseline(here, "--processes", str(world), saboteur=saboteur)
    assert done.returncode == 0, done.stderr
    assert (saboteur / "died").exists()
    assert BLIP.read_bytes() == whole


def test_two_processes_of_which_one_dies(here: Path, tmp_path: Path) -> None:
    processes_one_dies(here, tmp_path, 2)


def test_what_only_the_user_can_mend_is_said_once_by_several_processes(here: Path) -> None:
    """torchrun starts processes again whatever they ended with."""
    weights = Path("models/blip/model.safetensors")
    weights.rename(weights.with_suffix(".away"))
    try:
        done = baseline(here, "--processes", "2")
    finally:
        weights.with_suffix(".away").rename(weights)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("can't load the checkpoint") == 1
    assert "Traceback" not in done.stderr
    assert "abo-vqa baseline: can't load the checkpoint models/blip" in done.stderr
    assert "one of 2 processes stopped, for the reason above" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_three_processes_of_which_one_dies(here: Path, tmp_path: Path) -> None:
    processes_one_dies(here, tmp_path, 3)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_processes_write_the_same_bytes(here: Path, world: int) -> None:
    run_stage(stage, load_config(), model="blip")
    whole = BLIP.read_bytes()
    BLIP.unlink()
    done = baseline(here, "--processes", str(world))
    assert done.returncode == 0, done.stderr
    assert BLIP.read_bytes() == whole


def test_pictures_that_dont_fit_together_are_seen_in_parts() -> None:
    """CLIP's pictures are seen in blocks, which don't get smaller with the batch of questions."""
    from abo_vqa.models.sources import ImageCache

    tried: list[int] = []

    class Narrow(Echo):
        def encode(self, prepared):
            tried.append(len(prepared))
            if len(prepared) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
            return torch.tensor(super().encode(prepared))

    paths = [f"{i:03}" for i in range(20)]
    model = Narrow(room=3)
    found = ImageCache(ImageFiles(painted_any), paths, 8, "clip").encode(model, paths)
    assert found.values.tolist() == [painted_any(p).getpixel((0, 0))[0] for p in paths]
    assert len(model.prepared) == 20  # none is read twice
    assert tried[:3] == [8, 4, 2]
    assert set(tried[3:]) == {2}  # what didn't fit isn't tried again
    with pytest.raises(
        UserError, match=r"out of memory with a single image.*models\.clip in the profile"
    ):
        ImageCache(ImageFiles(painted_any), paths, 8, "clip").encode(Narrow(room=0), paths)
