"""The stage `embed` holds no list of blocks: each is made as it is dealt."""

import pytest

from abo_vqa.core.text_list import TextList
from abo_vqa.models.embeddings.build import _Blocks

PATHS = [f"{i:02d}.jpg" for i in range(11)]


@pytest.mark.parametrize("start", [0, 2, 3])
def test_blocks_are_slices_of_the_paths(start: int) -> None:
    expected = [PATHS[i : i + 4] for i in range(4 * start, 11, 4)]
    assert list(_Blocks(TextList(PATHS), 4, start)) == expected
    assert len(_Blocks(TextList(PATHS), 4, start)) == len(expected)
    with_shape = _Blocks(TextList(PATHS), 4, start, shape_first=True)
    assert list(with_shape) == [[], *expected]
    assert with_shape[1:] == expected
    assert len(with_shape) == len(expected) + 1


def test_without_images_there_is_only_the_question_for_their_shape() -> None:
    assert list(_Blocks(TextList([]), 4, shape_first=True)) == [[]]
