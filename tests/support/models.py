"""Tiny models of every real class, with random weights, saved as `from_pretrained` folders.

Random weights of the usual size answer every question alike, so a test on them would prove nothing.
Here weights are drawn wide enough that the picture and the question both change the answer, and the
end token is made likely enough that answers have different lengths.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

SIDE = 32  # pixels
ANSWER_TEXT = """
yes no black white red green blue yellow brown grey one two three four zero chair lamp table
shoe phone wood metal cotton glass round square striped plain left right top bottom none
"""
ANSWERS = ANSWER_TEXT.split()
WORD_TEXT = """
what which is the color colour of this product how many are there it made a an in does have
has any visible shape material pattern type item object kind shown picture image
question answer word user assistant : ? . , ' s t - /
"""
WORDS = WORD_TEXT.split()


def vocabulary(specials: tuple[str, ...]) -> dict[str, int]:
    """Special tokens, whole words, then letters and pieces, so that nothing is unknown."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + [str(d) for d in range(10)]
    words = [*specials, *WORDS, *ANSWERS, *letters, *("##" + x for x in letters)]
    return {word: i for i, word in enumerate(dict.fromkeys(words))}


def bert_tokenizer(**kwargs: Any) -> Any:
    """BERT's tokenizer with a small vocabulary and BLIP's two extra tokens."""
    from transformers import BertTokenizer

    specials = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    return BertTokenizer(vocab=vocabulary(specials), model_max_length=40, **kwargs)


def word_tokenizer(specials: tuple[str, ...], bos: str | None, **kwargs: Any) -> Any:
    """Whole words and pieces in the style of a causal language model: optional start, no end."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = vocabulary(specials)
    inner = Tokenizer(models.WordPiece(vocab, unk_token="<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(prefix="##")
    inner.add_special_tokens(list(specials))
    if bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, vocab[bos])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token=bos, padding_side="left", **kwargs
    )


def widen(model: torch.nn.Module, scale: float, seed: int) -> None:
    """Draw every matrix with a standard deviation of `scale`/sqrt(inputs), biases a little."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                spread = scale / np.sqrt(parameter[0].numel())
                parameter.normal_(0, spread, generator=generator)
    model.eval()


def save(folder: Path, *parts: Any) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    return folder


def tiny_blip(folder: Path, seed: int = 1) -> Path:
    """`BlipForQuestionAnswering`: 2 layers of width 32, 32-pixel pictures, 5 image tokens."""
    from transformers import BlipConfig, BlipForQuestionAnswering, BlipImageProcessor, BlipProcessor

    torch.manual_seed(seed)
    tokenizer = bert_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    body = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    text = {**body, "vocab_size": len(tokenizer), "encoder_hidden_size": 32, "projection_dim": 16}
    text |= {"num_hidden_layers": 2, "max_position_embeddings": 64, "hidden_dropout_prob": 0.0}
    text |= {"attention_probs_dropout_prob": 0.0, "is_decoder": True, "initializer_range": 0.02}
    text |= {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    text |= {"sep_token_id": tokenizer.sep_token_id, "eos_token_id": tokenizer.sep_token_id}
    # The class's default of 1e-10 would leave the picture without any effect.
    vision = {**body, "image_size": SIDE, "patch_size": 16, "num_hidden_layers": 2}
    vision |= {"initializer_range": 0.02}
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
    model = BlipForQuestionAnswering(config)
    widen(model, 1.0, seed)
    with torch.no_grad():
        # The question must not drown the words already said, or the decoder repeats itself.
        for layer in model.text_decoder.bert.encoder.layer:
            layer.crossattention.output.dense.weight.mul_(0.6)
        model.text_decoder.cls.predictions.decoder.bias[tokenizer.sep_token_id] = 1.0
    size = {"height": SIDE, "width": SIDE}
    return save(folder, model, BlipProcessor(BlipImageProcessor(size=size), tokenizer))


def tiny_blip2(folder: Path, seed: int = 0) -> Path:
    """`Blip2ForConditionalGeneration` with OPT: 4 query tokens in front of the prompt."""
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        BlipImageProcessor,
    )

    torch.manual_seed(seed)
    tokenizer = word_tokenizer(
        ("<pad>", "<unk>", "</s>", "<image>"), "</s>", eos_token="</s>", pad_token="<pad>"
    )
    body = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    text = {"model_type": "opt", "vocab_size": len(tokenizer), "hidden_size": 32, "ffn_dim": 64}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 2, "word_embed_proj_dim": 32}
    text |= {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 0, "dropout": 0.0}
    text |= {"max_position_embeddings": 128}
    vision = {**body, "image_size": SIDE, "patch_size": 16, "num_hidden_layers": 2}
    query = {**body, **quiet, "vocab_size": len(tokenizer), "num_hidden_layers": 2}
    config = Blip2Config(
        vision_config={**vision, "initializer_range": 0.02},
        qformer_config=query,
        text_config=text,
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = Blip2ForConditionalGeneration(config)
    widen(model, 2.0, seed)
    size = {"height": SIDE, "width": SIDE}
    processor = Blip2Processor(BlipImageProcessor(size=size), tokenizer, num_query_tokens=4)
    return save(folder, model, processor)


def tiny_clip(folder: Path, seed: int = 0) -> Path:
    """An open_clip model with its own config, for `local-dir:`; 32 tokens, features of 16."""
    import open_clip
    from open_clip.factory import get_tokenizer
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    from transformers import BertTokenizer

    # open_clip pools at the highest token id: the end token comes last.
    vocab = vocabulary(("[PAD]", "[UNK]", "[CLS]", "[MASK]"))
    vocab["[SEP]"] = len(vocab)
    tokenizer = BertTokenizer(vocab=vocab, model_max_length=32)
    tokenizer.save_pretrained(folder)
    model_cfg = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": 32,
            "vocab_size": len(vocab),
            "hf_tokenizer_name": "local",
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
    }
    text = json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}, indent=1)
    (folder / "open_clip_config.json").write_text(text, encoding="utf-8")
    torch.manual_seed(seed)
    name = f"local-dir:{folder}"
    model = open_clip.create_model(name, load_weights=False)
    widen(model, 1.5, seed)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    get_tokenizer(name)
    return folder


def tiny_llava(folder: Path, seed: int = 0) -> Path:
    """`LlavaForConditionalGeneration`: CLIP's vision tower, a Llama of 2 layers, 4 image tokens."""
    from transformers import (
        CLIPImageProcessor,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    torch.manual_seed(seed)
    tokenizer = word_tokenizer(
        ("<unk>", "<s>", "</s>", "<pad>", "<image>"), "<s>", eos_token="</s>", pad_token="<pad>"
    )
    body = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    text = {**body, "model_type": "llama", "num_hidden_layers": 2, "num_key_value_heads": 2}
    text |= {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    vision = {**body, "model_type": "clip_vision_model", "image_size": SIDE, "patch_size": 16}
    config = LlavaConfig(
        vision_config={**vision, "num_hidden_layers": 2},
        text_config={**text, "max_position_embeddings": 128},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=4,
    )
    model = LlavaForConditionalGeneration(config)
    widen(model, 2.0, seed)
    size = {"shortest_edge": SIDE}
    pictures = CLIPImageProcessor(size=size, crop_size={"height": SIDE, "width": SIDE})
    processor = LlavaProcessor(
        pictures,
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return save(folder, model, processor)


def tiny_vilt(folder: Path, seed: int = 0) -> Path:
    """`ViltForQuestionAnswering` over the small answer list; pictures of any proportion."""
    from transformers import ViltConfig, ViltForQuestionAnswering, ViltImageProcessor, ViltProcessor

    torch.manual_seed(seed)
    tokenizer = bert_tokenizer()
    config = ViltConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=16,
        max_position_embeddings=40,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_image_length=-1,
        id2label=dict(enumerate(ANSWERS)),
        label2id={answer: i for i, answer in enumerate(ANSWERS)},
    )
    model = ViltForQuestionAnswering(config)
    widen(model, 2.0, seed)
    pictures = ViltImageProcessor(size={"shortest_edge": SIDE}, size_divisor=16)
    return save(folder, model, ViltProcessor(pictures, tokenizer))


CHAT_TEMPLATE = (
    "<s>{% for message in messages %}{{ message['role'] }}:"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


def tiny_chat(folder: Path, seed: int = 0) -> Path:
    """`Idefics3ForConditionalGeneration` (SmolVLM's class) with a chat template."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    torch.manual_seed(seed)
    image_tokens = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    tokenizer = word_tokenizer(
        ("<unk>", "<s>", "</s>", "<pad>", *image_tokens), None, eos_token="</s>", pad_token="<pad>"
    )
    body = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    text = {**body, "model_type": "llama", "num_hidden_layers": 2, "num_key_value_heads": 2}
    text |= {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    config = Idefics3Config(
        vision_config={**body, "num_hidden_layers": 2, "image_size": SIDE, "patch_size": 8},
        text_config={**text, "max_position_embeddings": 128},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=3,
    )
    model = Idefics3ForConditionalGeneration(config)
    widen(model, 2.0, seed)
    size = {"longest_edge": SIDE}
    pictures = Idefics3ImageProcessor(size=size, max_image_size=size, do_image_splitting=False)
    processor = Idefics3Processor(pictures, tokenizer, image_seq_len=4, chat_template=CHAT_TEMPLATE)
    return save(folder, model, processor)


MAKERS = {
    "blip": tiny_blip,
    "blip2": tiny_blip2,
    "clip": tiny_clip,
    "llava": tiny_llava,
    "vilt": tiny_vilt,
    "chat": tiny_chat,
}
