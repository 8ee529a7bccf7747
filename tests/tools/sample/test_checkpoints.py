"""Every shipped checkpoint loads as its real class, from its own folder, and knows something.

The pictures are fresh draws of the pretraining studio, neither trained on nor in the sample.
"""

import collections
import random

import numpy as np
import pytest
import torch
from PIL import Image
from sample.checkpoints import MODELS
from sample.pretraining import ask, draw_chunk, draw_looks

from tests.support import ROOT

SHIPPED = ROOT / "models" / "sample"
NEW = 987_654  # a seed that training doesn't use
FEW = 24


@pytest.fixture(scope="module")
def asked():
    """Pictures (256 px, as the archives have them), questions, answers, kinds."""
    looks = draw_looks(FEW, NEW)
    r = random.Random(NEW)
    images = [Image.fromarray(p).resize((256, 256)) for p in draw_chunk(looks)]
    rows = [
        (images[pair.picture], pair.question, pair.answer, pair.kind)
        for number, look in enumerate(looks)
        for pair in ask(number, look, r)
        if pair.kind in ("color", "count", "is_color")
    ]
    return tuple(zip(*rows, strict=True))


def right(predictions, answers):
    return np.mean([p.strip().lower() == a for p, a in zip(predictions, answers, strict=True)])


def test_everything_is_shipped_within_its_budget():
    sizes = {
        name: sum(f.stat().st_size for f in (SHIPPED / name).rglob("*")) / 1e6 for name in MODELS
    }
    assert all(0.5 < size < 5 for size in sizes.values()), sizes
    remote = ROOT / "samples" / "dvc-remote"
    assert sum(f.stat().st_size for f in remote.rglob("*") if f.is_file()) < 25e6


@pytest.mark.parametrize("name", [m for m in MODELS if m != "encoder"])
def test_weights_are_half_precision(name):
    from safetensors import safe_open

    (file,) = (SHIPPED / name).glob("*.safetensors")
    with safe_open(file, "pt") as weights:
        names = weights.keys()
        kinds = collections.Counter(weights.get_slice(name).get_dtype() for name in names)
    assert kinds["F16"] > 10
    assert kinds["F32"] == 0


@torch.no_grad()
def test_blip(asked):
    from transformers import BlipForQuestionAnswering, BlipProcessor

    images, questions, answers, _ = asked
    model = BlipForQuestionAnswering.from_pretrained(SHIPPED / "blip", dtype=torch.float32)
    processor = BlipProcessor.from_pretrained(SHIPPED / "blip")
    said = []
    for image, question in zip(images, questions, strict=True):
        out = model.generate(**processor(image, question, return_tensors="pt"), max_new_tokens=4)
        said.append(processor.decode(out[0], skip_special_tokens=True))
    assert right(said, answers) > 0.5


@torch.no_grad()
def test_blip2(asked):
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    images, questions, answers, _ = asked
    model = Blip2ForConditionalGeneration.from_pretrained(SHIPPED / "blip2", dtype=torch.float32)
    processor = Blip2Processor.from_pretrained(SHIPPED / "blip2")
    said = []
    for image, question in zip(images, questions, strict=True):
        prompt = f"Question: {question} Answer in one word:"
        read = processor(image, prompt, return_tensors="pt")
        out = model.generate(**read, max_new_tokens=4)
        new = out[0, read.input_ids.shape[1] :]
        said.append(processor.tokenizer.decode(new, skip_special_tokens=True))
    assert right(said, answers) > 0.4


@torch.no_grad()
def test_llava(asked):
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

    images, questions, answers, _ = asked
    model = LlavaForConditionalGeneration.from_pretrained(SHIPPED / "llava", dtype=torch.float32)
    processor = LlavaProcessor.from_pretrained(SHIPPED / "llava")
    said = []
    for image, question in zip(images, questions, strict=True):
        read = processor(image, f"<image> Question: {question} Answer:", return_tensors="pt")
        out = model.generate(**read, max_new_tokens=4)
        new = out[0, read.input_ids.shape[1] :]
        said.append(processor.tokenizer.decode(new, skip_special_tokens=True))
    assert right(said, answers) > 0.35


@torch.no_grad()
def test_vilt(asked):
    from transformers import ViltForQuestionAnswering, ViltProcessor

    images, questions, answers, _ = asked
    model = ViltForQuestionAnswering.from_pretrained(SHIPPED / "vilt", dtype=torch.float32)
    processor = ViltProcessor.from_pretrained(SHIPPED / "vilt")
    names = model.config.id2label
    assert {"red", "chair", "wood", "striped", "yes", "no", "3"} <= set(names.values())
    read = processor(list(images), list(questions), padding=True, return_tensors="pt")
    said = [names[k] for k in model(**read).logits.argmax(-1).tolist()]
    assert right(said, answers) > 0.4


@torch.no_grad()
def test_clip(asked):
    import open_clip

    images, questions, answers, kinds = asked
    folder = f"local-dir:{SHIPPED / 'clip'}"
    model, _, preprocess = open_clip.create_model_and_transforms(folder)
    tokenizer = open_clip.get_tokenizer(folder)
    choices = sorted(set(answers) - {"yes", "no", "1", "2", "3", "4", "5"})
    hits = []
    for image, question, answer, kind in zip(images, questions, answers, kinds, strict=True):
        if kind != "color":
            continue
        texts = [f"Question: {question} Answer: {choice}" for choice in choices]
        written = model.encode_text(tokenizer(texts), normalize=True)
        seen = model.encode_image(preprocess(image)[None], normalize=True)
        hits.append(choices[int((seen @ written.T).argmax())] == answer)
    assert np.mean(hits) > 0.3  # 11 colours to choose from


def test_bart_prefers_the_same_to_the_close_to_the_far():
    from transformers import AutoTokenizer, BartForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED / "bart")
    model = BartForConditionalGeneration.from_pretrained(SHIPPED / "bart", dtype=torch.float32)

    def score(given: str, wanted: str) -> float:
        source, target = (
            tokenizer(text, return_tensors="pt").input_ids for text in (given, wanted)
        )
        with torch.no_grad():
            return -model.eval()(input_ids=source, labels=target).loss.item()

    assert score("red", "red") > score("blue", "red") > score("chair", "red")
    assert score("couch", "sofa") > score("chair", "sofa")
    assert score("2", "two") > score("3", "two")


def test_encoder_works_in_bert_score():
    import bert_score

    given = ["red", "red", "red", "couch"]
    _, _, f1 = bert_score.score(
        given, ["red", "blue", "chair", "sofa"], model_type=str(SHIPPED / "encoder"), num_layers=2
    )
    same, close, far, synonym = f1.tolist()
    assert same > 0.999 > close > far
    assert synonym > far
