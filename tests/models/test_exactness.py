"""Batched answers equal the plain library's, one picture and one question at a time.

The rows mix question lengths, pictures repeat, and the weights make both matter: a mask that is
dropped, a wrong position or a picture mixed up changes answers here.
"""

from collections.abc import Callable

import pytest
import torch
from PIL.Image import Image

from abo_vqa.models.answers import Answer
from tests.support import models as tiny

OneByOne = Callable[[Image, str], tuple[str, float]]


def from_logits(steps: list[torch.Tensor], ids: list[int], ends: set[int]) -> float:
    """Probability of generated tokens up to and with the end token, from the library's logits."""
    total = 0.0
    for logits, token in zip(steps, ids, strict=True):
        total += float(logits[0].float().log_softmax(-1)[token])
        if token in ends:
            break
    return float(torch.tensor(total, dtype=torch.float64).exp())


def generated(model, inputs, start: int, ends: set[int]) -> tuple[list[int], float]:
    """The library's own greedy generation: the new tokens and their probability."""
    out = model.generate(
        **inputs,
        max_new_tokens=10,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    ids = out.sequences[0, start:].tolist()
    return ids, from_logits(list(out.logits), ids, ends)


def blip(folder) -> OneByOne:
    from transformers import BlipForQuestionAnswering, BlipProcessor

    model = BlipForQuestionAnswering.from_pretrained(folder).eval()
    processor = BlipProcessor.from_pretrained(folder)
    end = model.config.text_config.sep_token_id

    def ask(image: Image, question: str) -> tuple[str, float]:
        inputs = processor(images=image, text=question, return_tensors="pt")
        ids, probability = generated(model, inputs, 1, {end})
        return processor.decode(ids, skip_special_tokens=True).strip(), probability

    return ask


def blip2(folder) -> OneByOne:
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    model = Blip2ForConditionalGeneration.from_pretrained(folder).eval()
    processor = Blip2Processor.from_pretrained(folder)

    def ask(image: Image, question: str) -> tuple[str, float]:
        prompt = f"Question: {question} Answer in one word:"
        inputs = processor(images=image, text=prompt, return_tensors="pt")
        ids, probability = generated(model, inputs, inputs["input_ids"].shape[1], {2})
        return processor.decode(ids, skip_special_tokens=True).strip(), probability

    return ask


def llava(folder) -> OneByOne:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = LlavaProcessor.from_pretrained(folder)

    def ask(image: Image, question: str) -> tuple[str, float]:
        prompt = f"<image> Question: {question} Answer:"
        inputs = processor(images=image, text=prompt, return_tensors="pt")
        ids, probability = generated(model, inputs, inputs["input_ids"].shape[1], {2})
        return processor.decode(ids, skip_special_tokens=True).strip(), probability

    return ask


def chat(folder) -> OneByOne:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)

    def ask(image: Image, question: str) -> tuple[str, float]:
        content = [
            {"type": "image", "image": image},
            {"type": "text", "text": f"{question} answer in one word."},
        ]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        ids, probability = generated(model, inputs, inputs["input_ids"].shape[1], {2})
        return processor.decode(ids, skip_special_tokens=True).strip(), probability

    return ask


def vilt(folder) -> OneByOne:
    from transformers import ViltForQuestionAnswering, ViltProcessor

    model = ViltForQuestionAnswering.from_pretrained(folder).eval()
    processor = ViltProcessor.from_pretrained(folder)

    @torch.no_grad()
    def ask(image: Image, question: str) -> tuple[str, float]:
        logits = model(**processor(images=image, text=question, return_tensors="pt")).logits[0]
        best = int(logits.argmax())
        return model.config.id2label[best], float(logits[best].sigmoid())

    return ask


def clip(folder) -> OneByOne:
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()

    @torch.no_grad()
    def ask(image: Image, question: str) -> tuple[str, float]:
        sentences = [f"Question: {question} Answer: {answer}" for answer in tiny.ANSWERS]
        seen = model.encode_image(preprocess(image)[None], normalize=True)
        texts = model.encode_text(tokenizer(sentences), normalize=True)
        scores = (model.logit_scale.exp() * seen @ texts.T)[0]
        best = int(scores.argmax())
        return tiny.ANSWERS[best], float(scores.softmax(-1)[best])

    return ask


PLAIN = {"blip": blip, "blip2": blip2, "llava": llava, "vilt": vilt, "clip": clip, "chat": chat}


@pytest.fixture(scope="module", params=PLAIN)
def family(request: pytest.FixtureRequest, folders, rows, load):
    """A family's name, its model, and the plain library's answer to every row."""
    name = request.param
    options = {"candidates": tiny.ANSWERS} if name == "clip" else {}
    ask = PLAIN[name](folders[name])
    expected = [ask(i, q) for i, q in zip(rows.images, rows.questions, strict=True)]
    return name, load(name, **options), expected


def texts(answers: list[Answer]) -> list[str]:
    return [answer.text for answer in answers]


def test_the_test_can_tell(family, rows) -> None:
    """Pictures and questions both change the plain library's answers."""
    _, _, expected = family
    said = [text for text, _ in expected]
    by_picture = {
        id(i): {t for j, t in zip(rows.images, said, strict=True) if j is i} for i in rows.images
    }
    by_question = {
        q: {t for p, t in zip(rows.questions, said, strict=True) if p == q} for q in rows.questions
    }
    assert max(map(len, by_picture.values())) > 1
    assert max(map(len, by_question.values())) > 1


def test_batch_equals_one_by_one(family, rows) -> None:
    _, model, expected = family
    answers = model.answer(rows.images, rows.questions)
    assert texts(answers) == [text for text, _ in expected]
    assert all(answer.error == "" for answer in answers)
    for answer, (_, probability) in zip(answers, expected, strict=True):
        assert answer.confidence == pytest.approx(probability, rel=1e-3, abs=1e-9)


def test_order_and_company_dont_matter(family, rows) -> None:
    """Other rows in the batch, and the order of rows, leave an answer as it is."""
    _, model, expected = family
    order = sorted(range(len(rows.images)), key=lambda i: (i * 7) % 24)[:11]
    answers = model.answer([rows.images[i] for i in order], [rows.questions[i] for i in order])
    assert texts(answers) == [expected[i][0] for i in order]


def test_a_picture_is_encoded_once(family, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, _ = family
    seen = []
    encode = model.encode_images
    monkeypatch.setattr(
        model, "encode_images", lambda pictures: seen.append(pictures) or encode(pictures)
    )
    model.answer(rows.images, rows.questions)
    assert [len(pictures) for pictures in seen] == [len(rows.pictures)]


def test_nothing_in_nothing_out(family) -> None:
    assert family[1].answer([], []) == []


def test_record_names_what_answers_depend_on(family) -> None:
    name, model, _ = family
    record = model.record()
    assert record["path"].endswith(name)
    assert record["dtype"] == "float32"
    assert record["prompt"]
    assert record["decoding"]
