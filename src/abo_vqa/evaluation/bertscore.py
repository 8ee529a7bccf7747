"""BERTScore (Zhang et al., 2020, arXiv:1904.09675), each distinct text encoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import bert_score
import numpy as np
import pandas as pd
import torch
from bert_score.utils import greedy_cos_idf, model2layers
from transformers import AutoConfig, AutoModel

from abo_vqa.core.errors import UserError
from abo_vqa.data.normalise import normalise_lossy
from abo_vqa.evaluation.neural import (
    TextPair,
    TokenIds,
    encode_texts,
    load_component,
    load_scorer,
    load_tokenizer,
    score_in_chunks,
    tokenize,
)

if TYPE_CHECKING:
    from abo_vqa.core.config import ScorerConfig

_PRF = tuple[float, float, float]
_ZERO: _PRF = (0.0, 0.0, 0.0)
_MATCH_BATCH = 4096  # pairs that are matched at once
_BASELINE_PAIRS = 1000  # random pairs that a baseline is estimated from


class BertScore:
    """Precision, recall and F1 of normalised strings, without idf, by bert_score's own matching.

    Differences from a call of the library, and why:
    - a side without tokens scores 0 (with transformers 5 the library raises on an empty string);
    - RoBERTa's tokenizer puts a space before the first word, as in the published scores
      ("Ġred"; the way in which the library requests it has no effect with transformers 5: "red");
    - texts of equal length share a batch. The library pads with similarity 0, which beats a
      negative one, so that its scores can depend on the batch.

    Attributes:
        scorer: the settings.
        layer: the number of the layer whose outputs are compared, 1-based.
        model: the encoder up to that layer, in float32.
        tokenizer: its tokenizer.
    """

    def __init__(self, scorer: ScorerConfig, device: str = "cpu") -> None:
        """Load the encoder.

        Args:
            scorer: checkpoint, layer and batch size.
            device: where to compute.

        Raises:
            UserError: the checkpoint can't be loaded, or has fewer layers than asked for.
        """
        config = load_component(AutoConfig, scorer)
        self.scorer, self._device = scorer, device
        self.layer = _select_layer(scorer, config.num_hidden_layers)
        options = {"add_prefix_space": True} if config.model_type in ("roberta", "gpt2") else {}
        # RoBERTa's positions start after its padding token: two of them are never used.
        self.tokenizer = load_tokenizer(scorer, config.max_position_embeddings - 2, **options)
        self.model = load_scorer(AutoModel, scorer, device, num_hidden_layers=self.layer)
        self._special_tokens = len(self.tokenizer("")["input_ids"])  # in every text

    def score(self, pairs: Sequence[TextPair]) -> dict[TextPair, _PRF]:
        """Score pairs of texts.

        Args:
            pairs: (prediction, reference), repeated or not.

        Returns:
            (precision, recall, F1) of each distinct pair.
        """
        normalised = {pair: (normalise_lossy(pair[0]), normalise_lossy(pair[1])) for pair in pairs}
        distinct = list(dict.fromkeys(normalised.values()))
        tokens = tokenize(self.tokenizer, (text for pair in distinct for text in pair))
        filled = [p for p in distinct if min(len(tokens[t]) for t in p) > self._special_tokens]

        def prepare(chunk: list[TextPair]) -> Callable[[list[TextPair]], list[_PRF]]:
            vectors = self.encode(tokens, (text for pair in chunk for text in pair))
            return partial(self._match, tokens=tokens, vectors=vectors)

        scores = score_in_chunks(filled, tokens, prepare, _MATCH_BATCH, "BERTScore")
        return {pair: scores.get(key, _ZERO) for pair, key in normalised.items()}

    def encode(self, tokens: TokenIds, texts: Iterable[str]) -> dict[str, torch.Tensor]:
        """Encode each distinct text once.

        Args:
            tokens: text → its token ids.
            texts: the texts.

        Returns:
            Text → its hidden states [T, D] after the chosen layer.
        """
        return encode_texts(tokens, texts, self.scorer.batch_size, self._hidden_states)

    def _hidden_states(self, input_ids: list[list[int]]) -> torch.Tensor:
        """The hidden states [B, T, D] after the chosen layer."""
        ids = torch.tensor(input_ids, device=self._device)  # [B, T]
        with torch.inference_mode():
            states: torch.Tensor = self.model(ids, attention_mask=torch.ones_like(ids))[0]
        return states

    def _match(
        self, batch: list[TextPair], tokens: TokenIds, vectors: dict[str, torch.Tensor]
    ) -> list[_PRF]:
        """Greedy matching by cosine (section 3 of the paper), by the library's function."""
        special = torch.tensor([self.tokenizer.cls_token_id, self.tokenizer.sep_token_id])
        arguments: list[torch.Tensor] = []
        for side in (1, 0):  # references first
            ids = torch.tensor([tokens[pair[side]] for pair in batch])  # [B, T]
            # Special tokens can be matched but don't count in the mean, as in the library.
            weights = (~torch.isin(ids, special)).float()
            states = torch.stack([vectors[pair[side]] for pair in batch])  # [B, T, D]
            arguments += [states, torch.ones_like(ids).to(self._device), weights]
        rows: list[_PRF] = torch.stack(greedy_cos_idf(*arguments), dim=1).tolist()
        return [(p, r, f) for p, r, f in rows]

    def baseline(self, references: Iterable[str]) -> float:
        """F1 of unrelated texts, by which F1 is rescaled: (F1 - b) / (1 - b).

        It is the published value where there is one for this encoder and layer. Otherwise it is
        estimated as there, from random pairs: the mean over two different reference answers.

        Args:
            references: reference answers, for the estimate.

        Returns:
            b; 0 where there are fewer than two different answers.
        """
        published = self.published_baseline()
        if published is not None:
            return published
        answers = sorted({normalise_lossy(reference) for reference in references} - {""})
        if len(answers) < 2:
            return 0.0
        rng = np.random.default_rng(0)
        first = rng.integers(0, len(answers), _BASELINE_PAIRS)
        second = (first + rng.integers(1, len(answers), _BASELINE_PAIRS)) % len(answers)
        pairs = [(answers[i], answers[j]) for i, j in zip(first, second, strict=True)]
        scores = self.score(pairs)
        return float(np.mean([scores[pair][2] for pair in pairs]))

    def published_baseline(self) -> float | None:
        """Look up bert_score's baseline for English: one file per encoder, one line per layer.

        Returns:
            The baseline of F1, None if there is no file for this encoder.
        """
        folder = Path(bert_score.__file__).parent / "rescale_baseline" / "en"
        file = folder / f"{Path(self.scorer.path).name}.tsv"
        if not file.is_file():
            return None
        table = pd.read_csv(file)
        return float(table.loc[table["LAYER"] == self.layer, "F"].to_numpy()[0])

    def signature(self) -> str:
        """Describe how the scores are computed, with the libraries' versions."""
        revision = f"@{self.scorer.revision}" if self.scorer.revision else ""
        return (
            f"{self.scorer.path}{revision}, layer {self.layer}, no idf, normalised strings, "
            f"an empty one scores 0; bert_score {version('bert_score')}, "
            f"transformers {version('transformers')}"
        )


def _select_layer(scorer: ScorerConfig, available: int) -> int:
    """The layer from the settings, else the one bert_score recommends, else the last.

    Raises:
        UserError: the encoder has fewer layers.
    """
    layer = scorer.layer or int(model2layers.get(scorer.path, available))
    if layer > available:
        raise UserError(
            f"scorers.bertscore.layer is {layer}, but {scorer.path} has {available} layers."
        )
    return layer
