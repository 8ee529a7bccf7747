"""A local annotator's processor time beside the plain library's on the same batches.

    python benchmarks/local_annotation.py                 # tiny models: a minute
    python benchmarks/local_annotation.py --images 2000

Tiny checkpoints always write good pairs. The plain way is transformers' own: loading the weights,
processor, `generate`, decoding, over images and prompts that are made before. Ours is everything
else as well: reading and decoding images, prompts, parsing, quality filter, journal. They are
measured in turns. A part of ours is the library's time, too: each image goes through its processor
by itself, so that its tokens depend on no other one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from abo_vqa.annotate.inputs import make_quality_filter, read_products
from abo_vqa.annotate.model_run import annotate
from abo_vqa.annotate.prompt import instruction
from abo_vqa.annotate.tasks import make_tasks
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.summary import no_log
from abo_vqa.data.archive import open_archive

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.annotation import products, write_balanced, write_params  # noqa: E402
from tests.support.archives import jpeg, listing, write_shop  # noqa: E402
from tests.support.vipllava import save_vipllava  # noqa: E402
from tests.support.vlms import save_qwen2_5_vl  # noqa: E402
from tests.support.writers import GOOD, save_writer  # noqa: E402

SIDE, DISTINCT, BATCH = 256, 64, 32  # ABO's small images have 256 pixels
SAVERS = {"qwen2_5_vl": save_qwen2_5_vl, "vipllava": save_vipllava}  # our engine, the library's


def prepare(folder: Path, images: int) -> None:
    """Fill a workspace whose profile has the checkpoints."""
    rows = products(images)
    jpegs = [jpeg(i, side=SIDE) for i in range(DISTINCT)]
    contents = {row["image_path"]: jpegs[i % DISTINCT] for i, row in enumerate(rows)}
    paths = {row["image_id"]: row["image_path"] for row in rows}
    write_shop(folder / "data/raw/sample", [listing("image0")], paths, contents)
    write_balanced(folder, rows)
    (folder / "dvc.yaml").touch()
    (folder / "conf/profiles").mkdir(parents=True)
    for part in (ROOT / "conf").iterdir():
        if part.name != "profiles":
            (folder / "conf" / part.name).symlink_to(part)
    profile = yaml.safe_load((ROOT / "conf/profiles/sample.yaml").read_text())
    for name, save in SAVERS.items():
        save_writer(folder / name, GOOD, save)
        profile["models"][name] = {"family": "chat", "path": name}
        profile["batch_sizes"][name] = BATCH
    (folder / "conf/profiles/sample.yaml").write_text(yaml.safe_dump(profile))


class PlainLibrary:
    """The same requests by the library alone."""

    def __init__(self, config: Config) -> None:
        settings = config.generate
        system = instruction(settings.prompt, settings.questions, settings.allow_brands)
        tasks = make_tasks(read_products(), [], make_quality_filter(config), config)
        with open_archive(config.data.raw) as archive:
            self.rows = [
                (archive.image(task.image_path), f"{system}\n\n{task.request(system).text}")
                for task in tasks
            ]
        self.path, self.max_new_tokens = settings.model, settings.max_output_tokens

    def load(self) -> None:
        """Load the weights, as each of our runs does."""
        self.model = AutoModelForImageTextToText.from_pretrained(self.path).eval()
        self.processor = AutoProcessor.from_pretrained(self.path)
        self.processor.tokenizer.padding_side = "left"

    def write(self, rows: list[tuple[Image.Image, str]]) -> list[str]:
        chats = [
            [
                {
                    "role": "user",
                    "content": [{"type": "image", "image": image}, {"type": "text", "text": text}],
                }
            ]
            for image, text in rows
        ]
        inputs = self.processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            padding=True,
        )
        with torch.inference_mode():
            output = self.model.generate(
                **inputs, do_sample=False, max_new_tokens=self.max_new_tokens
            )
        new = output[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        return texts

    def seconds(self) -> float:
        """Processor seconds for all rows, the loading of the weights included."""
        begun = time.process_time()
        self.load()
        for start in range(0, len(self.rows), BATCH):
            assert all(
                text.strip() in GOOD for text in self.write(self.rows[start : start + BATCH])
            )
        return time.process_time() - begun

    def one_by_one(self) -> float:
        """Processor seconds of the library's processor on each image by itself, as we use it."""
        begun = time.process_time()
        for image, _ in self.rows:
            self.processor.image_processor(images=[image], return_tensors="pt")
        return time.process_time() - begun


def ours(folder: Path, name: str, round_: int) -> float:
    """Processor seconds of a whole run, the loading of the weights included."""
    tokens = 64 + round_  # a journal of its own
    write_params(folder, annotator="local", model=name, temperature=0, max_output_tokens=tokens)
    config = load_config().model_copy(update={"threads": 1})
    rows, quality_filter = read_products(), make_quality_filter(config)
    begun = time.process_time()
    work = annotate(config, rows, quality_filter, no_log)
    spent = time.process_time() - begun
    assert all(task.is_complete for task in work.tasks)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=640, help="a round (%(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (%(default)s)")
    args = parser.parse_args()
    before = Path.cwd()
    torch.set_num_threads(1)  # a second one would mostly wait, and its waiting would count
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder, args.images)
        os.chdir(folder)
        for name in SAVERS:
            write_params(folder, annotator="local", model=name, max_output_tokens=64)
            plain = PlainLibrary(load_config())
            theirs, mine, single = [], [], []
            for round_ in range(args.repeat + 1):  # the first round warms up
                rounds = plain.seconds(), ours(folder, name, round_), plain.one_by_one()
                for times, seconds in zip((theirs, mine, single), rounds, strict=True):
                    times.append(1000 * seconds / args.images)
            theirs, mine, single = theirs[1:], mine[1:], single[1:]
            extra = [a - b for a, b in zip(mine, theirs, strict=True)]
            # Other work on the machine only ever adds time: the fastest round is nearest the truth.
            print(
                f"{name}: CPU an image {min(theirs):.1f} ms by the library alone, beyond it "
                f"{min(mine) - min(theirs):.1f} ms, by the fastest of {args.repeat} rounds of "
                f"{args.images} images each (by rounds {min(extra):.1f} to {max(extra):.1f}). The "
                f"library's image processor takes {min(single):.1f} ms for an image by itself",
                flush=True,
            )
        os.chdir(before)


if __name__ == "__main__":
    main()
