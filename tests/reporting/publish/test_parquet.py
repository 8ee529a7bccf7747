"""Parquet files of a split: each image once, in bounded memory, upright."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyarrow import parquet

from abo_vqa.data.archive import open_archive
from abo_vqa.reporting.publish import parquet as writing
from abo_vqa.reporting.publish.resuming import ExportJournal


def rows_of(n: int, each: int = 3) -> list[dict[str, Any]]:
    return [
        {"row_id": i * each + q, "image_path": f"{i}.jpg", "question": "?", "answer": "a"}
        for i in range(n) for q in range(each)
    ]  # fmt: skip


class Noise:
    """An archive of large pictures that don't compress."""

    def read(self, path: str) -> bytes:
        from random import Random

        return Random(path).randbytes(100_000)

    def image(self, path: str) -> Image.Image:
        return Image.new("RGB", (1, 1))


def test_a_picture_is_stored_once(tmp_path: Path) -> None:
    split = writing.write_parquet_split(
        "train", rows_of(40), Noise(), tmp_path, ExportJournal(tmp_path, "key"), 1_000_000
    )  # type: ignore[arg-type]
    assert split.shards[0].path == "data/train-00000-of-00001.parquet"
    assert 40 * 100_000 < split.file_bytes < 40 * 100_000 * 1.1  # not three times as much
    assert split.memory_bytes > 3 * 40 * 100_000


def test_row_groups_bound_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "GROUP_BYTES", 1_000_000)
    split = writing.write_parquet_split(
        "test", rows_of(40), Noise(), tmp_path, ExportJournal(tmp_path, "key"), 1_500_000
    )  # type: ignore[arg-type]
    files = [parquet.ParquetFile(tmp_path / shard.path) for shard in split.shards]
    assert len(files) == 4
    assert [file.num_row_groups for file in files] == [1] * 4
    assert [shard.rows for shard in split.shards] == [30] * 4
    ids = [i for file in files for i in file.read(["row_id"])["row_id"].to_pylist()]
    assert ids == list(range(120))
    image = files[3].read()["image"][29].as_py()
    assert image == {"path": "39.jpg", "bytes": Noise().read("39.jpg")}


def test_whoever_opens_a_picture_sees_it_upright(tmp_path: Path) -> None:
    folder = tmp_path / "images/small"
    folder.mkdir(parents=True)
    for part in ("listings/metadata", "images/metadata"):
        (tmp_path / part).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 30), (200, 0, 0)).save(folder / "0.jpg", exif=exif)
    Image.new("RGBA", (20, 30), (0, 0, 0, 0)).save(folder / "1.png")
    Image.new("RGB", (20, 30), (200, 0, 0)).save(folder / "2.jpg")
    named = ["0.jpg", "1.png", "2.jpg"]
    rows = [row | {"image_path": named[row["row_id"] // 3]} for row in rows_of(3)]
    with open_archive(tmp_path) as archive:
        split = writing.write_parquet_split(
            "test", rows, archive, tmp_path, ExportJournal(tmp_path, "key"), 1_000_000
        )
        images = parquet.read_table(tmp_path / split.shards[0].path)["image"].to_pylist()
        one, two, three = (Image.open(io.BytesIO(images[at]["bytes"])) for at in (0, 3, 6))
        assert (one.format, one.size) == ("JPEG", (30, 20))
        assert (two.format, two.convert("RGB").getpixel((0, 0))) == ("PNG", (255, 255, 255))
        assert images[6]["bytes"] == archive.read("2.jpg")
        assert three.size == (20, 30)
