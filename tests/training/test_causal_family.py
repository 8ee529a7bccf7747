"""LoRA on decoder-only models: the loss is the library's, in shared sequences as well."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from abo_vqa.core.config import CheckpointConfig, ComputeConfig, FinetuneConfig
from abo_vqa.core.errors import UserError
from abo_vqa.models.encoded import EncodedImage
from abo_vqa.models.registry import family_class
from abo_vqa.training.lora import add_lora
from abo_vqa.training.registry import trainable_family
from tests.support import models as tiny
from tests.support import workspaces
from tests.support.families import CPU, PROMPTS
from tests.support.vlms import VLM_SAVERS

PROMPT = "{question} answer in one word."
SAVERS = {
    **VLM_SAVERS,
    "llava": ("llava", tiny.MAKERS["llava"]),
    "blip2": ("blip2", tiny.MAKERS["blip2"]),
}
PLAIN = ("gemma3", "paligemma", "paligemma2")  # an image's tokens see later ones, or each other
ANSWERS = ("red", "blue chair", "two", "round", "wood table lamp", "no", "yes", "three", "glass")


def settings(**values) -> FinetuneConfig:
    """LoRA on queries and values, without dropout."""
    rest = {
        "model": "x", "r": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "v_proj"],
        "rslora": False, "dora": False, "gradient_checkpointing": False, "lr": 1e-3,
        "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "batch_size": 9,
        "accumulate": 1, "epochs": 1, "validation": 0.2, "group_pictures": True,
        "max_grad_norm": None, "checkpoint_minutes": 5, "keep_checkpoints": 1, "compile": False,
        "threads": None,
    }  # fmt: skip
    return FinetuneConfig(**(rest | values))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """checkpoints("qwen3_vl"): its settings, its folder made once."""
    root = tmp_path_factory.mktemp("vlms")

    def checkpoint(name: str) -> CheckpointConfig:
        family, save = SAVERS[name]
        folder: Path = root / name
        if not folder.exists():
            save(folder)
        prompt = PROMPTS.get(name, PROMPT)
        if name == "without_template":
            prompt = f"<image>{prompt}"
        return CheckpointConfig(path=str(folder), family=family, prompt=prompt)

    return checkpoint


@pytest.fixture(scope="session")
def rows() -> SimpleNamespace:
    """Nine rows: three images of different shapes with three questions each."""
    sizes = ((64, 64), (96, 40), (40, 120))
    images = [image.resize(size) for image, size in zip(workspaces.pictures(3), sizes, strict=True)]
    questions = [workspaces.QUESTIONS[i % len(workspaces.QUESTIONS)] for i in range(9)]
    return SimpleNamespace(
        images=images,
        questions=questions,
        answers=list(ANSWERS),
        index=torch.arange(3).repeat_interleave(3),
    )


def make_family(checkpoint: CheckpointConfig, compute: ComputeConfig = CPU, **values):
    """The family around a loaded model with LoRA whose second matrices aren't zero."""
    torch.manual_seed(0)
    family = trainable_family(checkpoint)(family_class(checkpoint).load(checkpoint, compute))
    model, layers = add_lora(family, settings(**values))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return family, model.eval(), layers


def encode(family, images) -> list[EncodedImage]:
    """Vision outputs as a cache holds them: without a history."""
    encoded = family.vqa.encode(family.vqa.preprocess(images))
    return [EncodedImage(image.features.clone(), image.layout) for image in encoded]


def make_batch(family, rows, images=None):
    texts = family.tokenize(rows.questions, rows.answers)
    images = encode(family, rows.images) if images is None else images
    return family.collate(list(range(9)), texts, images, rows.index)


def gradients(family, model, batch) -> tuple[float, torch.Tensor]:
    """The loss, and the gradient of everything that is trained."""
    model.zero_grad()
    loss = family.loss(batch)
    loss.backward()
    trained = [p.grad.flatten() for p in model.parameters() if p.requires_grad]
    return loss.item(), torch.cat(trained)


def library_loss(family, rows) -> torch.Tensor:
    """The library's own forward pass from pixels, one row at a time."""
    vqa = family.vqa
    total = torch.zeros(())
    for i, (question, answer) in enumerate(zip(rows.questions, rows.answers, strict=True)):
        pixels = vqa.preprocess([rows.images[rows.index[i]]])[0]
        prompt = vqa.prompts.tokenize(question, pixels.layout)
        tokens = vqa.prompts.answer_tokens(answer)
        ids = torch.tensor([[*prompt, *tokens]])
        more = {}
        if vqa.architecture.grid_positions:
            more["mm_token_type_ids"] = (ids == vqa.image_token).int()
        if vqa.architecture.token_types:
            known = torch.tensor([[1] * len(prompt) + [0] * len(tokens)])
            more["token_type_ids"] = vqa.token_types(ids, known)
        logits = vqa.model(
            input_ids=ids, attention_mask=torch.ones_like(ids), **pixels.tensors, **more
        ).logits[0, len(prompt) - 1 : -1]
        total = total + torch.nn.functional.cross_entropy(
            logits, torch.tensor(tokens), reduction="sum"
        )
    return total


@pytest.mark.parametrize("name", SAVERS)
def test_loss_and_gradients_are_the_librarys(checkpoints, rows, name) -> None:
    """From cached vision outputs, in shared sequences or not: as one row at a time from pixels."""
    family, model, layers = make_family(checkpoints(name))
    assert not any("vis" in layer or "qformer" in layer for layer in layers)
    batch = make_batch(family, rows)
    assert batch.sequences.shared == (name not in PLAIN)
    loss, gradient = gradients(family, model, batch)
    model.zero_grad()
    expected = library_loss(family, rows)
    expected.backward()
    library = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    assert loss == pytest.approx(float(expected), rel=1e-5)
    assert float((gradient - library).abs().max() / library.abs().max()) < 1e-5
    assert float(library.abs().max()) > 1e-3


@pytest.mark.parametrize("name", [name for name in SAVERS if name not in PLAIN])
def test_sharing_a_sequence_changes_nothing(checkpoints, rows, name) -> None:
    family, model, _ = make_family(checkpoints(name))
    shared = make_batch(family, rows)
    apart = make_batch(
        family, rows_apart(rows), encode(family, [rows.images[i] for i in rows.index])
    )
    assert shared.sequences.shared
    assert not apart.sequences.shared
    assert shared.sequences.ids.numel() < apart.sequences.ids.numel()
    (one, first), (other, second) = (gradients(family, model, b) for b in (shared, apart))
    assert one == pytest.approx(other, rel=1e-5)
    assert float((first - second).abs().max() / second.abs().max()) < 1e-5


def rows_apart(rows: SimpleNamespace) -> SimpleNamespace:
    """The same rows, each with an image of its own."""
    return SimpleNamespace(**{**vars(rows), "index": torch.arange(9)})


@pytest.mark.parametrize("name", ["llava", "qwen3_vl", "paligemma"])
def test_layers_of_the_vision_part_are_trained_from_pixels(checkpoints, rows, name) -> None:
    """A full name reaches them; the gradient is the library's."""
    vision = {
        "llava": "vision_tower.encoder.layers.0.self_attn.q_proj",
        "qwen3_vl": "visual.blocks.0.attn.qkv",
        "paligemma": "vision_tower.encoder.layers.0.self_attn.q_proj",
    }[name]
    family, model, layers = make_family(checkpoints(name), targets=["q_proj", vision])
    assert [layer for layer in layers if "vis" in layer] == [f"model.{vision}"]
    pixels = family.vqa.preprocess(rows.images)
    loss, gradient = gradients(family, model, make_batch(family, rows, pixels))
    model.zero_grad()
    expected = library_loss(family, rows)
    expected.backward()
    library = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    assert loss == pytest.approx(float(expected), rel=1e-5)
    assert float((gradient - library).abs().max() / library.abs().max()) < 1e-4
    trained = [p for n, p in model.named_parameters() if "vis" in n and "lora_A" in n]
    assert float(trained[0].grad.abs().max()) > 0


@pytest.mark.parametrize("name", ["smolvlm", "qwen2_5_vl", "paligemma"])
def test_gradient_checkpointing_changes_nothing(checkpoints, rows, name) -> None:
    results = []
    for checkpointing in (False, True):
        family, model, _ = make_family(checkpoints(name), gradient_checkpointing=checkpointing)
        model.train()
        results.append(gradients(family, model, make_batch(family, rows)))
    (one, first), (other, second) = results
    assert one == other
    assert torch.equal(first, second)


def test_only_the_answer_is_learned(checkpoints, rows) -> None:
    """Its tokens and the end token, in lower case."""
    family, _, _ = make_family(checkpoints("qwen2_5_vl"))
    texts = family.tokenize(["what is it?"], ["RED"])
    tokenizer = family.vqa.processor.tokenizer
    assert tokenizer.convert_ids_to_tokens(texts[0].answer.tolist()) == ["red", "<|im_end|>"]
    assert texts[0].loss_tokens == 2
    batch = make_batch(family, rows)
    counted = int((batch.sequences.labels >= 0).sum())
    assert counted == sum(t.loss_tokens for t in family.tokenize(rows.questions, rows.answers))


def test_an_architecture_that_is_only_asked_is_refused(checkpoints, monkeypatch) -> None:
    from abo_vqa.models import chat

    monkeypatch.setattr(chat, "ARCHITECTURES", {})
    checkpoint = checkpoints("smolvlm")
    with pytest.raises(UserError, match="type idefics3, which can be asked but not fine-tuned"):
        trainable_family(checkpoint)(family_class(checkpoint).load(checkpoint, CPU))


def test_a_fine_tuned_model_answers_with_all_it_writes(checkpoints) -> None:
    """`answer: last_word` is for models that weren't trained to write the answer alone."""
    checkpoint = checkpoints("llava").model_copy(update={"answer": "last_word"})
    model = family_class(checkpoint).load(checkpoint, CPU)
    assert model.answer_rule == "last_word"
    assert trainable_family(checkpoint)(model).vqa.answer_rule == "whole"
    assert model.record()["decoding"].endswith("answer: whole")
