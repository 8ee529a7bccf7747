"""The five families at their real sizes, and small: ours, and the plain library's way of asking.

Each has the sizes of the checkpoint that the profile `abo` names, a tokenizer made of words with
that vocabulary's size, and random weights. The end token is masked, so that every variant generates
equally many tokens: how soon random weights end an answer means nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from helpers import clip_towers
from helpers.random_weights import empty, fill, parameter_count
from helpers.real_size import QUESTIONS
from helpers.settings import weights
from PIL import Image

WORDS = sorted({w for q in QUESTIONS for w in re.findall(r"\w+|\?", q)} | {"question", "answer",
               "one", "word", ":"})  # fmt: skip
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST = {"blip": 3, "blip2": 10, "llava": 10}  # tokens said: a word and its end; the profile's


@dataclass(frozen=True)
class Family:
    """One model: how to build it without weights, and how the library is asked a row.

    Attributes:
        build: device → the model without weights and what makes ours of it.
        inputs: what the library is given for a picture and a question, on the CPU.
        say: the library's answer to such inputs.
        scale, sharper: see `random_weights.fill`.
    """

    name: str
    build: Callable[[str], tuple[Any, Callable[[Any, torch.device], Any]]]
    inputs: Callable[[Any, Image.Image, str], Any]
    say: Callable[[Any, Any], str]
    scale: float = 1.5
    sharper: float = 1.5

    def make(self, size: str, device: torch.device, dtype: torch.dtype) -> Any:
        """Ours, with weights drawn on the device; the same ones in every dtype."""
        model, ours = self.build(size)
        return ours(fill(model, device, dtype, self.scale, self.sharper), device)


def vocabulary(specials: Sequence[str], size: int) -> dict[str, int]:
    """Special tokens, the benchmark's words, and words without meaning up to the size."""
    listed = [*specials, *WORDS]
    listed += [f"word{i}" for i in range(size - len(listed))]
    return {word: at for at, word in enumerate(listed)}


def bert_tokenizer(size: int) -> Any:
    from transformers import BertTokenizer

    return BertTokenizer(vocab=vocabulary(SPECIALS, size), model_max_length=40)


def causal_tokenizer(specials: Sequence[str], size: int, start: str, end: str, pad: str) -> Any:
    """Whole words behind a start token, as a causal language model's tokenizer has it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = vocabulary(specials, size)
    inner = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.add_special_tokens(list(specials))
    inner.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", pair=f"{start} $A $B", special_tokens=[(start, known[start])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token=start,
                                   eos_token=end, pad_token=pad, padding_side="left")  # fmt: skip


def on_device(model: Any, inputs: Any) -> dict[str, Any]:
    """Inputs where the model is, pictures in its dtype."""
    moved = {}
    for name, value in inputs.items():
        value = value.to(model.device)
        moved[name] = value.to(model.dtype) if value.is_floating_point() else value
    return moved


def body(width: int, layers: int, heads: int, inner: int) -> dict[str, int]:
    return {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
            "intermediate_size": inner}  # fmt: skip


# ---- BLIP


def blip(size: str) -> Any:
    from transformers import BlipConfig, BlipForQuestionAnswering, BlipImageProcessor, BlipProcessor

    from abo_vqa.models.blip.model import Blip

    real = size == "real"
    tokenizer = bert_tokenizer(30522 if real else 120)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    side, width = (384, 768) if real else (32, 32)
    shape = body(768, 12, 12, 3072) if real else body(32, 2, 2, 64)
    end = tokenizer.sep_token_id
    text = {**shape, "vocab_size": 30524 if real else len(tokenizer), "encoder_hidden_size": width,
            "bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id,
            "sep_token_id": end, "eos_token_id": end}  # fmt: skip
    vision = {**shape, "image_size": side, "patch_size": 16}
    config = BlipConfig(text_config=text, vision_config=vision)
    model = empty(lambda: BlipForQuestionAnswering(config))
    settings = replace(weights("blip"), max_new_tokens=LONGEST["blip"])
    pictures = BlipImageProcessor(size={"height": side, "width": side})

    def ours(filled: Any, device: torch.device) -> Any:
        with torch.no_grad():
            filled.text_decoder.cls.predictions.decoder.bias[end].fill_(-1e4)
        filled.name_or_path = settings.path  # PEFT compares it with the adapter's
        return Blip(filled, BlipProcessor(pictures, tokenizer), settings, device)

    return model, ours


def blip_says(ours: Any, inputs: Any) -> str:
    moved = on_device(ours.model, inputs)
    ids = ours.model.generate(**moved, max_new_tokens=LONGEST["blip"], do_sample=False)
    return ours.processor.decode(ids[0], skip_special_tokens=True).strip()


def plain_inputs(ours: Any, image: Image.Image, question: str) -> Any:
    text = ours.checkpoint.prompt.format(question=question)
    return ours.processor(images=image, text=text, return_tensors="pt")


# ---- BLIP-2 and LLaVA


def blip2(size: str) -> Any:
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        BlipImageProcessor,
    )

    from abo_vqa.models.blip2 import Blip2

    real = size == "real"
    names, words = ("<unk>", "<pad>", "</s>", "<image>"), 50304 if real else 120
    tokenizer = causal_tokenizer(names, words, "</s>", "</s>", "<pad>")
    side, patch, queries = (224, 14, 32) if real else (32, 16, 4)
    vision = {**(body(1408, 39, 16, 6144) if real else body(32, 2, 2, 64)),
              "image_size": side, "patch_size": patch}  # fmt: skip
    query = {**(body(768, 12, 12, 3072) if real else body(32, 2, 2, 64)),
             "encoder_hidden_size": vision["hidden_size"]}  # fmt: skip
    width, inner, layers, heads = (2560, 10240, 32, 32) if real else (32, 64, 2, 2)
    text = {"model_type": "opt", "vocab_size": words, "hidden_size": width, "ffn_dim": inner,
            "num_hidden_layers": layers, "num_attention_heads": heads, "word_embed_proj_dim": width,
            "max_position_embeddings": 2048 if real else 128, "bos_token_id": 2, "eos_token_id": 2,
            "pad_token_id": 1}  # fmt: skip
    config = Blip2Config(vision_config=vision, qformer_config=query, text_config=text,
                         num_query_tokens=queries, image_token_index=3)  # fmt: skip
    model = empty(lambda: Blip2ForConditionalGeneration(config))
    pictures = BlipImageProcessor(size={"height": side, "width": side})
    processor = Blip2Processor(pictures, tokenizer, num_query_tokens=queries)
    settings = replace(weights("blip2"), max_new_tokens=LONGEST["blip2"])
    return model, lambda filled, device: Blip2(endless(filled), processor, settings, device)


def llava(size: str) -> Any:
    from transformers import (
        CLIPImageProcessor,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    from abo_vqa.models.llava import Llava

    real = size == "real"
    names, words = ("<unk>", "<s>", "</s>", "<pad>", "<image>"), 32064 if real else 120
    tokenizer = causal_tokenizer(names, words, "<s>", "</s>", "<pad>")
    side, patch = (336, 14) if real else (32, 16)
    text = {**(body(4096, 32, 32, 11008) if real else body(32, 2, 2, 64)), "model_type": "llama",
            "vocab_size": words, "max_position_embeddings": 4096 if real else 128,
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}  # fmt: skip
    text["num_key_value_heads"] = text["num_attention_heads"]
    vision = {**(body(1024, 24, 16, 4096) if real else body(32, 2, 2, 64)),
              "model_type": "clip_vision_model", "image_size": side,
              "patch_size": patch}  # fmt: skip
    chosen = {"vision_feature_layer": -2, "vision_feature_select_strategy": "default"}
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4, **chosen,
                         image_seq_length=(side // patch) ** 2)  # fmt: skip
    model = empty(lambda: LlavaForConditionalGeneration(config))
    pictures = CLIPImageProcessor(size={"shortest_edge": side},
                                  crop_size={"height": side, "width": side})  # fmt: skip
    processor = LlavaProcessor(pictures, tokenizer, patch_size=patch, num_additional_image_tokens=1,
                               vision_feature_select_strategy="default")  # fmt: skip
    # Answers are compared as they are said, not by their last word.
    settings = replace(weights("llava"), max_new_tokens=LONGEST["llava"], answer="whole")
    return model, lambda filled, device: Llava(endless(filled), processor, settings, device)


def endless(model: Any) -> Any:
    """A language model that can't end: its end token isn't in the vocabulary."""
    vocabulary_size = model.config.text_config.vocab_size
    for part in (model, getattr(model, "language_model", None)):
        settings = getattr(part, "generation_config", None)
        if settings is not None:
            settings.eos_token_id, settings.pad_token_id = vocabulary_size, 1
    return model


def causal_says(ours: Any, inputs: Any) -> str:
    given = on_device(ours.model, inputs)
    longest = ours.checkpoint.max_new_tokens
    ids = ours.model.generate(**given, max_new_tokens=longest, do_sample=False)
    said = ids[0, given["input_ids"].shape[1] :]
    return ours.processor.tokenizer.decode(said, skip_special_tokens=True).strip()


# ---- ViLT and CLIP


def vilt(size: str) -> Any:
    from transformers import ViltConfig, ViltForQuestionAnswering, ViltImageProcessor, ViltProcessor

    from abo_vqa.models.vilt import Vilt

    real = size == "real"
    tokenizer = bert_tokenizer(30522 if real else 120)
    side, patch = (384, 32) if real else (32, 16)
    labels = {at: f"answer{at}" for at in range(3129 if real else 40)}
    config = ViltConfig(
        **(body(768, 12, 12, 3072) if real else body(32, 2, 2, 64)), image_size=side,
        patch_size=patch, max_image_length=-1, max_position_embeddings=40,
        vocab_size=30522 if real else len(tokenizer), id2label=labels,
        label2id={name: at for at, name in labels.items()},
    )  # fmt: skip
    model = empty(lambda: ViltForQuestionAnswering(config))
    pictures = ViltImageProcessor(size={"shortest_edge": side}, size_divisor=patch)
    processor = ViltProcessor(pictures, tokenizer)
    return model, lambda filled, device: Vilt(filled, processor, weights("vilt"), device)


def vilt_says(ours: Any, inputs: Any) -> str:
    with torch.no_grad():
        scores = ours.model(**on_device(ours.model, inputs)).logits[0]
    return ours.model.config.id2label[int(scores.argmax())]


def clip_of(candidates: int) -> Callable[[str], Any]:
    """CLIP with so many candidate answers of one token each (small: a fifteenth of them)."""

    def build(size: str) -> Any:
        from abo_vqa.models.clip.model import Clip
        from abo_vqa.models.clip.text import TextTower

        sizes = clip_towers.Sizes()
        if size != "real":
            sizes = clip_towers.Sizes(16, 32, 16, (64, 2, 1), (32, 2, 2), 32, 400)
        known = [*WORDS, *(f"word{i}" for i in range(sizes.vocabulary - len(WORDS) - 3))]
        count = candidates if size == "real" else candidates // 15
        answers = known[len(WORDS) : len(WORDS) + count]
        tokenizer = clip_towers.Words(known, sizes)

        def ours(filled: Any, device: torch.device) -> Any:
            prepare = clip_towers.preprocess(sizes.side)
            filled.attn_mask = filled.attn_mask.to(filled.positional_embedding.dtype)
            clip = Clip(filled, prepare, tokenizer, weights("clip"), device, answers)
            clip.text = TextTower(filled, tokenizer, causal=True)
            clip.library = clip_towers.library(filled)
            clip.tokenizer = tokenizer
            return clip

        return empty(lambda: clip_towers.Towers(sizes)), ours

    return build


def clip_inputs(ours: Any, image: Image.Image, question: str) -> Any:
    """The picture and every candidate's sentence, padded to the full length as the study did."""
    sentences = [ours.checkpoint.prompt.format(question=question, candidate=candidate)
                 for candidate in ours.candidates]  # fmt: skip
    return {"input_ids": ours.tokenizer(sentences), "pixel_values": ours.transform(image)[None]}


def clip_says(ours: Any, inputs: Any) -> str:
    with torch.no_grad():
        scores = ours.library(**on_device(ours.library, inputs)).logits_per_image[0]
    return ours.candidates[int(scores.argmax())]


FAMILIES = {
    "blip": Family("blip", blip, plain_inputs, blip_says, 0.55, 4.0),
    "blip2": Family("blip2", blip2, plain_inputs, causal_says),
    "clip-1800": Family("clip-1800", clip_of(1800), clip_inputs, clip_says),
    "clip-3000": Family("clip-3000", clip_of(3000), clip_inputs, clip_says),
    "vilt": Family("vilt", vilt, plain_inputs, vilt_says),
    "llava": Family("llava", llava, plain_inputs, causal_says),
}


def bytes_of(family: Family, size: str, dtype: torch.dtype) -> int:
    """What a family's weights take."""
    return parameters(family.name, size) * dtype.itemsize


@cache
def parameters(name: str, size: str) -> int:
    return parameter_count(FAMILIES[name].build(size)[0])
