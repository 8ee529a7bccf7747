"""Tiny chat checkpoints that write given replies: a reply is one token of the vocabulary.

They are real checkpoints of real classes. Their layers add little to a token's embedding, so that
the last token decides: after a prompt's end comes a reply, after a reply the end token. Which reply
it is depends on what the layers add, and so on the image and on the text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from tests.support.models import save
from tests.support.vlms import save_smolvlm

_PROMPT, _REPLY = 0, 1  # dimensions that say whether a token is a prompt's or a reply
_CERTAIN = 200.0


def reply(*pairs: tuple[str, str]) -> str:
    """A reply as the prompt asks for it."""
    return json.dumps([{"question": question, "answer": answer} for question, answer in pairs])


GOOD = [
    reply(("What color is it?", "red"), ("Is it round?", "no"), ("What is it made of?", "wood")),
    reply(("How many are there?", "2"), ("Is it shiny?", "yes"), ("What shape is it?", "round")),
    "```json\n"
    + reply(("Is it new?", "yes"), ("What pattern is it?", "striped"), ("Is it big?", "no"))
    + "\n```",
    reply(("Is it a lamp?", "no"), ("What is under it?", "table"), ("What is behind it?", "wall")),
]
MIXED = [
    *GOOD,
    reply(("What color is it?", "green")),
    reply(("What is this?", "a long answer"), ("Is it open?", "yes")),
    GOOD[0][:60],
    "I am a small model.",
]


def save_writer(
    folder: Path,
    replies: Sequence[str] = GOOD,
    save_checkpoint: Callable[[Path], Path] = save_smolvlm,
    room: int = 8192,
) -> Path:
    """Save a checkpoint that writes one of the replies.

    Args:
        folder: where to.
        replies: texts, each of which becomes a token.
        save_checkpoint: saves the checkpoint that is changed; its embeddings must not be tied.
        room: tokens of prompt and reply that the model has positions for.
    """
    from transformers import AddedToken, AutoModelForImageTextToText, AutoProcessor

    save_checkpoint(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder)
    tokenizer = processor.tokenizer
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in replies])
    ids = tokenizer.convert_tokens_to_ids(list(replies))
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ends = model.generation_config.eos_token_id
    inputs, outputs = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert inputs is not outputs
    with torch.no_grad():
        for name, weight in model.get_decoder().named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight *= 0.5
                weight[: _REPLY + 1] = 0
            elif name == "norm.weight":
                weight.fill_(1.0)
        inputs[:, : _REPLY + 1] = 0
        inputs[:, _PROMPT] = 3.0
        inputs[ids, _PROMPT], inputs[ids, _REPLY] = 0.0, 3.0
        generator = torch.Generator().manual_seed(7)
        outputs.zero_()
        outputs[ids] = 0.3 * torch.randn(len(ids), outputs.shape[1], generator=generator)
        outputs[ids, _PROMPT], outputs[ids, _REPLY] = _CERTAIN, 0.0
        outputs[ends, _REPLY] = _CERTAIN
    model.config.get_text_config().max_position_embeddings = room
    return save(folder, model, processor)
