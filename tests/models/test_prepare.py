"""Pictures prepared off the main thread: the same numbers, in any company and any thread."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from abo_vqa.core.config import CheckpointConfig
from abo_vqa.models.causal.images import PixelInputs
from abo_vqa.models.encoded import EncodedImage
from abo_vqa.models.pixels import pixel_dtype
from abo_vqa.models.sources import ImageFiles
from tests.support import models as tiny
from tests.support import workspaces

OPTIONS = {"clip": {"candidates": tiny.ANSWERS}}


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Of many sizes, larger and smaller than what the towers read."""
    sizes = [(256, 256), (256, 171), (40, 61), (31, 33), (90, 256), (256, 256), (8, 9)]
    return [
        picture.resize(sizes[i % len(sizes)]).rotate(7 * i)
        for i, picture in enumerate(workspaces.pictures(21))
    ]


def equal(one, other) -> bool:
    """Whether two preparations hold the same bits, entry by entry."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, PixelInputs):
        return one.layout == other.layout and equal(
            sorted(one.tensors.items()), sorted(other.tensors.items())
        )
    if isinstance(one, EncodedImage):
        return one.layout == other.layout and equal(one.features, other.features)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@pytest.mark.parametrize("name", sorted(tiny.MAKERS))
def test_any_number_of_threads_gives_the_same_bits(load, pictures, name) -> None:
    model = load(name, **OPTIONS.get(name, {}))
    paths = [str(i) for i in range(len(pictures))]
    together = model.preprocess(pictures)
    for threads in (1, 3):
        found = ImageFiles(lambda path: pictures[int(path)], threads).load(model, paths)
        assert equal(found.values, together)
    alone = [entry for picture in pictures for entry in model.preprocess([picture])]
    assert equal(alone, together)


@pytest.mark.parametrize("name", sorted(tiny.MAKERS))
def test_preparing_leaves_device_and_generator_alone(load, pictures, name) -> None:
    model = load(name, **OPTIONS.get(name, {}))
    model.device = None  # whoever uses it here, fails
    state = torch.random.get_rng_state()
    with ThreadPoolExecutor(1) as pool:
        prepared = pool.submit(model.preprocess, pictures).result()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(prepared) == len(pictures)


@pytest.mark.parametrize("name", sorted(tiny.MAKERS))
def test_a_part_of_what_was_prepared_is_seen_the_same(load, pictures, name) -> None:
    model = load(name, **OPTIONS.get(name, {}))
    files = ImageFiles(lambda path: pictures[int(path)], 1)
    loaded = files.load(model, [str(i) for i in range(len(pictures))])
    part = files.encode(model, files.select(loaded, ["4", "2"]))
    assert dict(part.index) == {"4": 0, "2": 1}
    assert equal(part.values, model.encode_images([pictures[4], pictures[2]]))


@pytest.mark.parametrize("name", ["blip", "blip2", "llava", "vilt", "clip"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_pixels_have_the_patch_embeddings_format(load, pictures, name, dtype) -> None:
    """Also where the parameter that comes first is in another one, or holds integers."""
    model = load(name, {"dtype": dtype}, **OPTIONS.get(name, {}))
    first = next(iter(model.model.parameters()))
    first.data = first.data.float()
    assert pixel_dtype(model.model) == getattr(torch, dtype)
    pixels = model.preprocess(pictures[:1])[0]
    if isinstance(pixels, PixelInputs):
        pixels = pixels.tensors["pixel_values"]
    assert pixels.dtype == getattr(torch, dtype)


def test_integers_are_no_number_format_of_pixels() -> None:
    quantised = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Conv2d(3, 4, 2).bfloat16())
    quantised[0].weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), False)
    assert pixel_dtype(quantised) == torch.bfloat16


def test_a_record_names_the_arithmetics_format() -> None:
    """Of quantised weights, most of which are integers."""
    from abo_vqa.models.record import checkpoint_record

    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(2, 2)).bfloat16()
    model[0].weight = torch.nn.Parameter(torch.zeros(64, 64, dtype=torch.int8), False)
    found = checkpoint_record(CheckpointConfig(path="x", quantize="8bit"), model)
    assert (found["dtype"], found["quantize"]) == ("bfloat16", "8bit")
