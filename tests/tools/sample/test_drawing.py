"""The drawn pictures: repeatable, full of the colour they claim, different between studios."""

from dataclasses import replace

import numpy as np
import pytest
from sample.scene import DRAWERS, Look, render
from sample.studio import MATERIALS, PATTERNS, PRETRAINING, SAMPLE, Chance

MUG = Look("MUG", "red", "ceramic", "solid", shape_seed=1, view_seed=2)


def drawn(look, studio=SAMPLE, size=64):
    return np.asarray(render(look, size, studio)).astype(int)


def test_same_look_same_pixels():
    assert (drawn(MUG) == drawn(MUG)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"color": "blue"},
        {"pattern": "striped"},
        {"material": "wood"},
        {"count": 3},
        {"view_seed": 3},
        {"shape_seed": 2},
    ],
)
def test_every_property_shows(change):
    assert np.abs(drawn(MUG) - drawn(replace(MUG, **change))).mean() > 1


@pytest.mark.parametrize("kind", sorted(DRAWERS))
def test_kinds_are_drawn_on_white_in_their_colour(kind):
    image = drawn(Look(kind, "red", "plastic", "solid", shape_seed=5, view_seed=6))
    corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.min() > 200
    reddish = (image[..., 0] > image[..., 1] + 50) & (image[..., 0] > image[..., 2] + 50)
    assert reddish.mean() > 0.02


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_count_is_the_number_of_separate_things(count):
    from scipy.ndimage import binary_fill_holes, label

    look = Look("PLATE", "blue", "plastic", "solid", "round", count, 5, 6)
    image = drawn(look, size=128)
    blobs, _ = label(binary_fill_holes(image[..., 0] < 170))
    assert (np.bincount(blobs.ravel())[1:] > 50).sum() == count


def test_glass_lets_the_ground_through_and_patterns_add_a_second_colour():
    glass, plastic = (drawn(replace(MUG, material=m)) for m in ("glass", "plastic"))
    assert glass.mean() > plastic.mean()
    spread = {p: drawn(replace(MUG, pattern=p, material="fabric")).std() for p in PATTERNS}
    assert len({round(value, 3) for value in spread.values()}) == len(PATTERNS)
    assert len({drawn(replace(MUG, material=m)).tobytes() for m in MATERIALS}) == len(MATERIALS)


def test_studios_differ_and_keep_their_proportions_apart():
    assert np.abs(drawn(MUG) - drawn(MUG, PRETRAINING)).mean() > 3
    inner, outer = Chance(0), Chance(0, outer=True)
    assert all(0.4 <= inner(0.4, 0.6) <= 0.6 for _ in range(200))
    draws = [outer(0.4, 0.6) for _ in range(200)]
    assert all(0.3 <= d <= 0.42 + 1e-9 or 0.58 - 1e-9 <= d <= 0.7 for d in draws)
    assert SAMPLE.palette.keys() == PRETRAINING.palette.keys()
    gaps = [
        np.abs(np.subtract(SAMPLE.palette[c], PRETRAINING.palette[c])).max() for c in SAMPLE.palette
    ]
    assert min(gaps) >= 10
