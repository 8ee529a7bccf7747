"""BARTScore (Yuan et al., 2021, arXiv:2106.11520), each distinct prediction encoded once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from abo_vqa.evaluation.neural import (
    Pair,
    batches,
    computed,
    counted,
    load_model,
    load_tokenizer,
    scored,
    tokenise,
)

if TYPE_CHECKING:
    import torch

    from abo_vqa.config import ScorerConfig


class BartScore:
    """Mean log-likelihood of the raw reference's tokens given the raw prediction.

    That is minus the mean loss of BART with the reference as labels, the start and end tokens
    counted. An empty prediction is an empty source, an empty reference an empty target; both are
    scored like any other text (the study gave empty predictions 0, the best value there is).
    """

    def __init__(self, scorer: ScorerConfig, device: str = "cpu") -> None:
        from transformers import BartForConditionalGeneration

        self.scorer, self.device = scorer, device
        self.model = load_model(BartForConditionalGeneration, scorer, device)
        self.tokenizer = load_tokenizer(scorer, self.model.config.max_position_embeddings)

    def score(self, pairs: Sequence[Pair]) -> dict[Pair, float]:
        """The score of each distinct (prediction, reference)."""
        distinct = list(dict.fromkeys(pairs))
        tokens = tokenise(self.tokenizer, (text for pair in distinct for text in pair))
        size = {text: len(ids) for text, ids in tokens.items()}
        with counted(len(distinct), "BARTScore") as bar:

            def score_part(part: list[Pair]) -> list[float]:
                sources = self.encode(tokens, (said for said, _ in part))
                likelihood = partial(self.likelihood, tokens=tokens, sources=sources)
                shape = batches(part, lambda p: (size[p[0]], size[p[1]]), self.scorer.batch_size)
                scores: dict[Pair, float] = {}
                for batch in shape:
                    scores.update(zip(batch, computed(batch, likelihood), strict=True))
                    bar.update(len(batch))
                return [scores[pair] for pair in part]

            return scored(distinct, lambda pair: size[pair[0]] + size[pair[1]], score_part)

    def encode(self, tokens: dict[str, list[int]], texts: Iterable[str]) -> dict[str, torch.Tensor]:
        """The encoder's vectors [T, D] of each distinct text."""
        import torch

        def states(batch: list[str]) -> torch.Tensor:
            ids = torch.tensor([tokens[text] for text in batch], device=self.device)  # [B, T]
            with torch.inference_mode():
                found: torch.Tensor = self.model.get_encoder()(ids)[0]
            return found  # [B, T, D]

        found: dict[str, torch.Tensor] = {}
        distinct = dict.fromkeys(texts)
        for batch in batches(distinct, lambda t: len(tokens[t]), self.scorer.batch_size):
            found.update(zip(batch, computed(batch, states), strict=True))
        return found

    def likelihood(
        self, batch: list[Pair], tokens: dict[str, list[int]], sources: dict[str, torch.Tensor]
    ) -> list[float]:
        """Mean log-likelihood of each reference, given its prediction's vectors."""
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        labels = torch.tensor([tokens[wanted] for _, wanted in batch], device=self.device)  # [B, T]
        encoded = BaseModelOutput(torch.stack([sources[said] for said, _ in batch]))
        with torch.inference_mode():
            logits = self.model(encoder_outputs=encoded, labels=labels).logits  # [B, T, V]
            likely = logits.log_softmax(-1).gather(2, labels[..., None])[..., 0]  # [B, T]
            means: list[float] = likely.mean(1).tolist()
        return means

    def signature(self) -> str:
        from importlib.metadata import version

        revision = f"@{self.scorer.revision}" if self.scorer.revision else ""
        return (
            f"{self.scorer.path}{revision}, mean log-likelihood of the raw reference given the raw "
            f"prediction, empty ones too; transformers {version('transformers')}"
        )
