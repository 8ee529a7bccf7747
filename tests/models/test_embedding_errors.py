"""Unreadable images on record: written once, and the same after a damaged or a torn record."""

import numpy as np
import pytest

from abo_vqa.models.embeddings.builder import EmbeddingBuilder


def builder_at(folder) -> EmbeddingBuilder:
    return EmbeddingBuilder(folder, (100, 1, 2), "float32", folder)


def add(builder: EmbeddingBuilder, start: int) -> None:
    """A block of ten images of which nine can't be read."""
    errors = {f"{i}.jpg": "not a JPEG" for i in range(start + 1, start + 10)}
    builder.add({start: np.ones((1, 2), np.float32)}, errors)


def test_the_state_doesnt_grow_with_the_errors(tmp_path) -> None:
    builder, sizes, written = builder_at(tmp_path), [], []
    for start in range(0, 100, 10):
        add(builder, start)
        sizes.append((tmp_path / "state.json").stat().st_size)
        written.append((tmp_path / "errors.jsonl").stat().st_size)
    assert max(sizes) - min(sizes) < 8  # digits of counts
    assert max(np.diff(written)) <= written[0] + 9  # each block adds its own
    assert builder_at(tmp_path).errors == builder.errors
    assert len(builder.errors) == 90


def test_what_a_killed_process_wrote_after_the_state_is_cut_off(tmp_path) -> None:
    builder = builder_at(tmp_path)
    add(builder, 0)
    with (tmp_path / "errors.jsonl").open("a") as file:
        file.write('{"10.jpg": "not a')
    again = builder_at(tmp_path)
    assert (again.done, again.errors) == (1, builder.errors)
    add(again, 10)
    assert builder_at(tmp_path).errors == again.errors


@pytest.mark.parametrize("content", ["", "nonsense" * 99])
def test_a_damaged_record_starts_over(tmp_path, content) -> None:
    add(builder_at(tmp_path), 0)
    (tmp_path / "errors.jsonl").write_text(content)
    again = builder_at(tmp_path)
    assert (again.done, again.errors) == (0, {})
    assert not (tmp_path / "errors.jsonl").exists()
