"""Pictures for a vision tower: what the main thread does while a GPU waits for the next batch.

    python benchmarks/preparing.py

The families' own processors at the real sizes, on JPEGs of 256 x 256 pixels; the tower takes no
time. "On the main thread" decodes ahead and resizes when the batch is due, as `embed` and the
baselines once did; "ahead" is `ImageFiles.load`, as they do now. Seconds are the threads'
processor time; the pixels of both ways must be equal to the bit.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from helpers.real_size import photographs

from abo_vqa.core.config import CheckpointConfig
from abo_vqa.data.image_decoding import decode
from abo_vqa.models.base import VQAModel
from abo_vqa.models.blip.model import Blip
from abo_vqa.models.blip2 import Blip2
from abo_vqa.models.clip.model import Clip
from abo_vqa.models.llava import Llava
from abo_vqa.models.sources import ImageFiles, default_threads, prefetch
from abo_vqa.models.vilt import Vilt

BATCH = 32


def families() -> dict[str, VQAModel]:
    """The families with their processors; in the place of weights, a patch embedding's format."""
    from open_clip import image_transform
    from transformers import BlipImageProcessor, CLIPImageProcessor, ViltImageProcessor

    patches = torch.nn.Conv2d(3, 1, 1, dtype=torch.bfloat16)

    def made(family: Callable[..., VQAModel], processor: Any) -> VQAModel:
        processor = SimpleNamespace(image_processor=processor)
        return family(patches, processor, CheckpointConfig(path="no weights"), torch.device("cpu"))

    clip = object.__new__(Clip)
    clip.model = SimpleNamespace(visual=patches)
    clip.transform = image_transform(224, is_train=False)
    crop = {"height": 336, "width": 336}
    return {
        "blip": made(Blip, BlipImageProcessor(size={"height": 384, "width": 384})),
        "blip2": made(Blip2, BlipImageProcessor(size={"height": 224, "width": 224})),
        "clip": clip,
        "llava": made(Llava, CLIPImageProcessor(size={"shortest_edge": 336}, crop_size=crop)),
        "vilt": made(Vilt, ViltImageProcessor(size={"shortest_edge": 384}, size_divisor=32)),
    }


def measured(run: Callable[[], list[Any]]) -> tuple[float, float, list[Any]]:
    """Seconds of this thread's processor time and of the whole process's, and the result."""
    thread, process = time.thread_time(), time.process_time()
    result = run()
    return time.thread_time() - thread, time.process_time() - process, result


def pixels(batches: list[Any]) -> list[torch.Tensor]:
    return [entry for batch in batches for entry in batch]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    written = []
    for picture in photographs(args.pictures):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=90)
        written.append(file.getvalue())
    paths = [str(i) for i in range(args.pictures)]
    batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
    files = ImageFiles(lambda path: decode(written[int(path)], path))
    print(f"{args.pictures} pictures, {default_threads()} thread(s) beside the main; ms a picture")
    columns = ("main thread", "ahead", "share", "all threads", "ahead")
    print(" " * 8 + "".join(f"{column:>13}" for column in columns))
    for name, model in families().items():

        def before(model: VQAModel = model) -> list[Any]:
            loading = prefetch(batches, lambda batch: [files.open_image(path) for path in batch])
            return [model.preprocess(images or []) for _, images in loading]

        def now(model: VQAModel = model) -> list[Any]:
            loading = prefetch(batches, lambda batch: files.load(model, batch))
            return [loaded.values for _, loaded in loading if loaded]

        runs = [(measured(before), measured(now)) for _ in range(args.repeat)]
        for old, new in runs:
            pairs = zip(pixels(old[2]), pixels(new[2]), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs), name
        seconds = [(*old[:2], *new[:2]) for old, new in runs]
        mine, every, own, now_every = (
            1e3 * min(column) / args.pictures for column in zip(*seconds, strict=True)
        )
        print(f"{name:8}{mine:13.2f}{own:13.3f}{own / mine:13.1%}{every:13.2f}{now_every:13.2f}")


if __name__ == "__main__":
    main()
