"""BARTScore (Yuan et al., 2021, arXiv:2106.11520), each distinct prediction encoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch
from transformers import BartForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from abo_vqa.evaluation.neural import (
    TextPair,
    TokenIds,
    encode_texts,
    load_scorer,
    load_tokenizer,
    score_in_chunks,
    tokenize,
)

if TYPE_CHECKING:
    from abo_vqa.core.config import ScorerConfig


class BartScore:
    """Mean log-likelihood of the raw reference's tokens given the raw prediction.

    Equation 2 of the paper with equal weights, divided by the number of tokens: minus the mean
    loss of BART with the reference as labels, the start and end tokens counted. An empty
    prediction is an empty source, an empty reference an empty target; both are scored like any
    other text (the study gave empty predictions 0, the best possible value).

    Attributes:
        model: BART with its language-modelling head, in float32.
        tokenizer: its tokenizer.
    """

    def __init__(self, scorer: ScorerConfig, device: str = "cpu") -> None:
        """Load the model.

        Args:
            scorer: checkpoint and batch size.
            device: where to compute.

        Raises:
            UserError: the checkpoint can't be loaded.
        """
        self._scorer, self._device = scorer, device
        self.model = load_scorer(BartForConditionalGeneration, scorer, device)
        self.tokenizer = load_tokenizer(scorer, self.model.config.max_position_embeddings)

    def score(self, pairs: Sequence[TextPair]) -> dict[TextPair, float]:
        """Score pairs of texts.

        Args:
            pairs: (prediction, reference), repeated or not.

        Returns:
            The score of each distinct pair.
        """
        distinct = list(dict.fromkeys(pairs))
        tokens = tokenize(self.tokenizer, (text for pair in distinct for text in pair))

        def prepare(chunk: list[TextPair]) -> Callable[[list[TextPair]], list[float]]:
            sources = self.encode(tokens, (prediction for prediction, _ in chunk))
            return partial(self._log_likelihood, tokens=tokens, sources=sources)

        return score_in_chunks(distinct, tokens, prepare, self._scorer.batch_size, "BARTScore")

    def encode(self, tokens: TokenIds, texts: Iterable[str]) -> dict[str, torch.Tensor]:
        """Encode each distinct text once.

        Args:
            tokens: text → its token ids.
            texts: the texts.

        Returns:
            Text → the encoder's hidden states [T, D].
        """
        return encode_texts(tokens, texts, self._scorer.batch_size, self._hidden_states)

    def _hidden_states(self, input_ids: list[list[int]]) -> torch.Tensor:
        """The encoder's hidden states [B, T, D]."""
        ids = torch.tensor(input_ids, device=self._device)  # [B, T]
        with torch.inference_mode():
            states: torch.Tensor = self.model.get_encoder()(ids)[0]
        return states

    def _log_likelihood(
        self, batch: list[TextPair], tokens: TokenIds, sources: dict[str, torch.Tensor]
    ) -> list[float]:
        """Mean log-likelihood of each reference, given its prediction's hidden states."""
        labels = torch.tensor([tokens[reference] for _, reference in batch], device=self._device)
        encoded = BaseModelOutput(torch.stack([sources[prediction] for prediction, _ in batch]))
        with torch.inference_mode():
            logits = self.model(encoder_outputs=encoded, labels=labels).logits  # [B, T, V]
            token_scores = logits.log_softmax(-1).gather(2, labels[..., None])[..., 0]  # [B, T]
            means: list[float] = token_scores.mean(1).tolist()
        return means

    def signature(self) -> str:
        """Describe how the scores are computed, with the library's version."""
        revision = f"@{self._scorer.revision}" if self._scorer.revision else ""
        return (
            f"{self._scorer.path}{revision}, mean log-likelihood of the raw reference given the "
            f"raw prediction, empty ones too; transformers {version('transformers')}"
        )
