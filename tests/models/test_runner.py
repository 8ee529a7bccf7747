"""Rows in batches: failures, memory that runs out, interruptions, workers."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from abo_vqa.core.errors import UserError
from abo_vqa.data.image_files import ImageError
from abo_vqa.models.answering.journal import Journal, collect
from abo_vqa.models.answering.runner import (
    BatchAnswerer,
    answer_rows,
    predict_rows,
)
from abo_vqa.models.answers import Answer
from abo_vqa.models.base import VQAModel
from abo_vqa.models.sources import ImageFiles


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


def test_an_unreadable_picture_is_an_error_and_not_an_answer(tmp_path: Path) -> None:
    rows = rows_of(15)
    predict_rows(Echo(), rows, ImageFiles(painted), tmp_path, 6, "echo")
    table = collect(rows, tmp_path)
    assert table["prediction"].tolist() == expected(rows)
    assert table["error"].tolist() == ["damaged" if p == "002" else "" for p in rows["image_path"]]
    assert set(table.loc[table["error"] != "", "confidence"]) == {""}


def test_progress_ends_at_the_total(tmp_path: Path, capsys) -> None:
    rows = rows_of(15)
    predict_rows(Echo(), rows, ImageFiles(painted), tmp_path, 6, "echo")
    last = capsys.readouterr().err.rpartition("\r")[2]
    assert "15/15" in last
    assert last.endswith("\n")


def test_out_of_memory_halves_the_batch_and_goes_on(tmp_path: Path) -> None:
    rows = rows_of(48)
    model = Echo(room=5)
    predict_rows(model, rows, ImageFiles(painted), tmp_path, 24, "echo")
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
    predict_rows(model, rows, ImageFiles(painted), tmp_path, 24, "echo")
    assert collect(rows, tmp_path)["prediction"].tolist() == expected(rows)
    assert max(model.sizes[:10]) <= 6
    assert max(model.sizes) == 24


def test_a_card_that_is_too_small_costs_few_lost_batches(tmp_path: Path, capsys) -> None:
    rows = rows_of(6000)
    predict_rows(Echo(room=6), rows, ImageFiles(painted_any), tmp_path, 24, "echo")
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
    predict_rows(Recording(), rows, ImageFiles(painted_any), tmp_path, 24, "echo")
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
    predict_rows(model, rows, ImageFiles(painted_any), tmp_path / "other", 24, "echo")
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
    predict_rows(model, rows, ImageFiles(counted), tmp_path, 24, "echo")
    assert sorted(read) == sorted(set(rows["image_path"]))
    assert len(model.prepared) == 8
    assert len(model.seen) == 8 + 4 + 8  # 24 rows in vain, 12 in vain, then 6 at a time


def test_one_pictures_many_questions_see_it_once(tmp_path: Path) -> None:
    rows = rows_of(24).assign(image_path="005")
    model = Echo(room=6)
    predict_rows(model, rows, ImageFiles(painted), tmp_path, 24, "echo")
    assert len(model.sizes) == 4
    assert len(model.seen) == 1 + 1 + 1


def test_a_card_on_which_nothing_fits_stops_the_stage_at_once(tmp_path: Path) -> None:
    rows = rows_of(300)
    model = Echo(room=0)
    with pytest.raises(
        UserError, match=r"8 rows in a row .*for models\.llava in the profile: quantize: 8bit"
    ):
        predict_rows(model, rows, ImageFiles(painted_any), tmp_path, 24, checkpoint_key="llava")
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
        predict_rows(model, rows, ImageFiles(painted), tmp_path, 12, "echo")
    assert sorted(set(rows["row_id"]) - set(Journal(tmp_path).read())) == failing
    assert collect(rows, tmp_path) is None
    model.small = False
    model.sizes.clear()
    predict_rows(model, rows, ImageFiles(painted), tmp_path, 12, "echo")
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

    predict_rows(Greedy(), rows, ImageFiles(painted_any, threads=1), tmp_path, 24, "echo")
    assert collect(rows, tmp_path)["error"].tolist() == [""] * 48


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
        predict_rows(Broken(), rows_of(3), ImageFiles(painted), tmp_path, 3, "echo")


def test_resume_asks_only_what_is_missing(tmp_path: Path) -> None:
    rows = rows_of(30)
    whole = tmp_path / "whole"
    whole.mkdir()
    predict_rows(Echo(), rows, ImageFiles(painted), whole, 6, "echo")
    lines = (whole / "answers-0.jsonl").read_bytes().splitlines(keepends=True)
    torn = tmp_path / "torn"
    torn.mkdir()
    # Killed in the middle of the third line.
    (torn / "answers-0.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:20])
    assert collect(rows, torn) is None
    model = Echo()
    predict_rows(model, rows, ImageFiles(painted), torn, 6, "echo")
    assert sum(model.sizes) == 30 - 12 - 0  # two of five batches were done (one picture is broken)
    pd.testing.assert_frame_equal(collect(rows, torn), collect(rows, whole))


def test_batches_may_come_back_in_any_order(tmp_path: Path) -> None:
    """As from workers, of which the last one is the fastest."""
    rows = rows_of(40)

    def backwards(batches):
        answerers = [BatchAnswerer(Echo(), rows, ImageFiles(painted), "echo") for _ in range(3)]
        for position in reversed(range(len(batches))):
            (answered,) = answerers[position % 3]([batches[position]])
            yield position, answered

    answer_rows(backwards, rows, "image", tmp_path, 6)
    assert collect(rows, tmp_path)["prediction"].tolist() == expected(rows)


@pytest.mark.parametrize("line", [b"\0\0\0", b"12", b"[1]", b"[[]]", b'{"a": 1}'])
def test_a_damaged_line_is_asked_again(tmp_path: Path, line: bytes) -> None:
    rows = rows_of(12)
    (tmp_path / "answers-0.jsonl").write_bytes(line + b"\n")
    predict_rows(Echo(), rows, ImageFiles(painted), tmp_path, 6, "echo")
    assert collect(rows, tmp_path)["prediction"].tolist() == expected(rows)


def test_line_breaks_dont_reach_the_table(tmp_path: Path) -> None:
    Journal(tmp_path).writer()([0, 1], [Answer("two\nlines", 0.123456789), Answer("", None, "x")])
    table = collect(pd.DataFrame({"row_id": [1, 0]}), tmp_path)
    assert table.values.tolist() == [[1, "", "", "x"], [0, "two lines", "0.123457", ""]]


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
