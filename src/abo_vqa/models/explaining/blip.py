"""Explanations of BLIP's answers.

The question encoder attends to the image, and the answer decoder to the question's states, not to
the image. So where an answer's token looked is a chain of both: which words of the question it
attended to, and where in the image those words had looked.

Heads and layers are averaged: all of them are part of the computation, and with dozens of maps to
choose from, one that looks right could be found for almost any answer.

Shapes: L tokens of the question, A of the answer; T tokens of the image, the class token first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from abo_vqa.models.blip.attention import (
    attention_block,
    project_keys_values,
    split_heads,
)
from abo_vqa.models.blip.decoder import AnswerDecoder
from abo_vqa.models.blip.model import Blip
from abo_vqa.models.explaining.explainer import Explainer
from abo_vqa.models.explaining.explanations import (
    COUNT,
    WHOLE_IMAGE,
    AttentionMaps,
    Likeliest,
    LikelyAnswer,
    TokenKind,
)
from abo_vqa.models.explaining.search import TextSearch

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers.models.blip.modeling_blip_text import (
        BlipTextAttention,
        BlipTextLayer,
        BlipTextLMHeadModel,
        BlipTextModel,
    )

    from abo_vqa.models.answers import Answer

_METHOD = (
    "Cross-attention, averaged over heads and layers. A word of the question attends to the image; "
    "a token of the answer attends to the question's words, so its map is the average of theirs, "
    "weighted by that attention."
)


class BlipExplainer(Explainer[Blip]):
    """Likeliest texts of all, and the chain of BLIP's two cross-attentions."""

    def likeliest(self, encoded: Tensor, question: str, answer: Answer) -> Likeliest:
        """Search the answer decoder for the likeliest texts."""
        del answer
        device = self.model.device
        with torch.inference_mode():
            decoder, first = self._start_decoder(encoded, question)

            def continue_texts(texts: Sequence[tuple[int, ...]]) -> Tensor:
                ids = pad_sequence([torch.tensor(text) for text in texts], batch_first=True)
                rows = torch.zeros(len(texts), dtype=torch.long, device=device)
                logits = decoder.continuations(rows, ids.to(device))
                ends = torch.tensor([len(text) - 1 for text in texts])
                return logits[torch.arange(len(texts)), ends].float().log_softmax(-1)

            search = TextSearch(
                first,
                continue_texts,
                int(self.model.model.config.text_config.sep_token_id),
                self.model.checkpoint.max_new_tokens,
                COUNT,
            )
        answers: dict[str, LikelyAnswer] = {}
        for tokens, log_prob in search.finished:
            decoded: str = self.model.processor.decode(list(tokens), skip_special_tokens=True)
            text = decoded.strip()
            answers.setdefault(text, LikelyAnswer(text, math.exp(log_prob)))
        return Likeliest(tuple(answers.values()), _scope(search.exact))

    def first_token_log_probs(
        self, encoded: Tensor, question: str, texts: Sequence[str]
    ) -> Sequence[float]:
        """Return the log-probabilities by one step of the decoder."""
        tokens = self.model.processor.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        end = int(self.model.model.config.text_config.sep_token_id)
        with torch.inference_mode():
            _, first = self._start_decoder(encoded, question)
        log_probs: list[float] = first[[(*ids, end)[0] for ids in tokens]].tolist()
        return log_probs

    def _start_decoder(self, encoded: Tensor, question: str) -> tuple[AnswerDecoder, Tensor]:
        """Return a decoder that has read the start token, and the next one's log-probabilities."""
        network = self.model.model
        input_ids = self._question_ids(question)
        states, _ = attend_to_image(network.text_encoder, input_ids, self._image(encoded))
        decoder = AnswerDecoder(network.text_decoder, states, torch.ones(input_ids.shape))
        start = torch.tensor([[network.decoder_start_token_id]], device=self.model.device)
        return decoder, decoder(start)[0].float().log_softmax(-1)

    def attention(
        self, encoded: Tensor, image: Image, question: str, answer: str
    ) -> AttentionMaps | None:
        """Chain the answer's attention to the question with the question's to the image."""
        del image
        network, tokenizer = self.model.model, self.model.processor.tokenizer
        ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            input_ids = self._question_ids(question)
            states, to_image = attend_to_image(
                network.text_encoder, input_ids, self._image(encoded)
            )
            maps = [to_image[1:-1]]  # without [CLS] and [SEP]
            if ids:  # an empty answer has no token
                # The state that a token is predicted from is the one before it.
                before = [network.decoder_start_token_id, *ids[:-1]]
                previous = torch.tensor([before], device=self.model.device)
                maps.append(attend_to_question(network.text_decoder, previous, states) @ to_image)
        rows = torch.cat(maps).cpu().numpy()
        question_kind: TokenKind = "question"
        answer_kind: TokenKind = "answer"
        words = input_ids[0, 1:-1].tolist()
        side = math.isqrt(rows.shape[1] - 1)
        return AttentionMaps(
            tuple(tokenizer.convert_ids_to_tokens([*words, *ids])),
            (question_kind,) * len(words) + (answer_kind,) * len(ids),
            rows[:, 1:].reshape(-1, side, side),
            rows[:, 0],
            WHOLE_IMAGE,  # the processor squeezes an image into a square
            _METHOD,
        )

    def _question_ids(self, question: str) -> Tensor:
        """Return a question's token ids [1, L]."""
        ids: Tensor = self.model.processor.tokenizer([question], return_tensors="pt")["input_ids"]
        return ids.to(self.model.device)

    def _image(self, encoded: Tensor) -> Tensor:
        """Return the vision tower's output [1, T, V] where and as the model needs it."""
        return encoded[:1].to(self.model.device, self.model.dtype)


def attend_to_image(
    encoder: BlipTextModel, input_ids: Tensor, images: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the question encoder over one question.

    Args:
        encoder: BLIP's `text_encoder`.
        input_ids: [1, L], without padding.
        images: [1, T, V], the vision tower's output.

    Returns:
        The states [1, L, W], and the mean attention of each token to the image's, [L, T].
    """
    return _run_layers(encoder, encoder.encoder.layer, input_ids, images, None)


def attend_to_question(decoder: BlipTextLMHeadModel, input_ids: Tensor, states: Tensor) -> Tensor:
    """Run the answer decoder over one answer.

    Args:
        decoder: BLIP's `text_decoder`.
        input_ids: [1, A], the token before each of the answer's.
        states: [1, L, W], the encoded question.

    Returns:
        [A, L], the mean attention of each answer token to the question's tokens.
    """
    length = input_ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).tril()
    return _run_layers(decoder.bert, decoder.bert.encoder.layer, input_ids, states, causal)[1]


def _run_layers(
    model: BlipTextModel,
    layers: Sequence[BlipTextLayer],
    input_ids: Tensor,
    context: Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Run layers with cross-attention to `context`; return the states and the mean weights."""
    hidden: Tensor = model.embeddings(input_ids=input_ids)
    weights = []
    for layer in layers:
        keys, values = project_keys_values(layer.attention, hidden)
        hidden = attention_block(layer.attention, hidden, keys, values, mask)
        keys, values = project_keys_values(layer.crossattention, context)
        weights.append(_attention_weights(layer.crossattention, hidden, keys))
        hidden = attention_block(layer.crossattention, hidden, keys, values, None)
        hidden = layer.feed_forward_chunk(hidden)
    return hidden, torch.stack(weights).mean(0)


def _attention_weights(attention: BlipTextAttention, hidden: Tensor, keys: Tensor) -> Tensor:
    """Return the weights that `attention_block` applies to values, averaged over heads: [L, S].

    In double precision, so that each row's sum is 1 whatever the model's dtype.
    """
    query = split_heads(attention.self.query(hidden), attention.self)[0]  # [H, L, D]
    scores = query @ keys[0].transpose(1, 2) * query.shape[-1] ** -0.5
    weights: Tensor = scores.double().softmax(-1).mean(0)
    return weights


def _scope(exact: bool) -> str:
    """Return what the likeliest texts are the likeliest of."""
    texts = "The likeliest of all texts" if exact else "The likeliest texts that a search came to"
    return f"{texts}. A probability is that of the whole answer, token by token, with its end."
