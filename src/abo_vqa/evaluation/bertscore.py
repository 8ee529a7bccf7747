"""BERTScore (Zhang et al., 2020, arXiv:1904.09675), each distinct text encoded once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from abo_vqa.core.errors import UserError
from abo_vqa.data.normalise import normalise_lossy
from abo_vqa.evaluation.neural import (
    Pair,
    batches,
    computed,
    counted,
    load_model,
    load_part,
    load_tokenizer,
    scored,
    tokenise,
)

if TYPE_CHECKING:
    import torch

    from abo_vqa.config import ScorerConfig

_Three = tuple[float, float, float]
_NOTHING: _Three = (0.0, 0.0, 0.0)


class BertScore:
    """Precision, recall and F1 of normalised strings, without idf: bert_score's own matching.

    Differences from a call of the library, and why:
    - a side without tokens scores 0 (with transformers 5 the library raises on an empty string);
    - RoBERTa's tokenizer puts a space before the first word, as in the published scores
      ("Ġred"; the library asks for it in a way that transformers 5 ignores: "red");
    - texts of equal length share a batch. The library pads with similarity 0, which beats a
      negative one, so that its scores can depend on the batch.
    """

    names = ("bertscore_precision", "bertscore_recall", "bertscore_f1")

    def __init__(self, scorer: ScorerConfig, device: str = "cpu") -> None:
        from transformers import AutoConfig, AutoModel

        config = load_part(AutoConfig, scorer)
        self.scorer, self.device = scorer, device
        self.layer = _chosen_layer(scorer, config.num_hidden_layers)
        spaced = {"add_prefix_space": True} if config.model_type in ("roberta", "gpt2") else {}
        # RoBERTa's positions start after its padding token: two of them are never used.
        self.tokenizer = load_tokenizer(scorer, config.max_position_embeddings - 2, **spaced)
        self.model = load_model(AutoModel, scorer, device, num_hidden_layers=self.layer)
        self.bare = len(self.tokenizer("")["input_ids"])  # the special tokens of every text

    def score(self, pairs: Sequence[Pair]) -> dict[Pair, _Three]:
        """(precision, recall, F1) of each distinct (prediction, reference)."""
        keyed = {pair: (normalise_lossy(pair[0]), normalise_lossy(pair[1])) for pair in pairs}
        distinct = list(dict.fromkeys(keyed.values()))
        tokens = tokenise(self.tokenizer, (text for pair in distinct for text in pair))
        size = {text: len(ids) for text, ids in tokens.items()}
        filled = [p for p in distinct if size[p[0]] > self.bare and size[p[1]] > self.bare]
        with counted(len(filled), "BERTScore") as bar:

            def score_part(part: list[Pair]) -> list[_Three]:
                vectors = self.encode(tokens, (text for pair in part for text in pair))
                match = partial(self.match, tokens=tokens, vectors=vectors)
                scores: dict[Pair, _Three] = {}
                for batch in batches(part, lambda p: (size[p[0]], size[p[1]]), 4096):
                    scores.update(zip(batch, computed(batch, match), strict=True))
                    bar.update(len(batch))
                return [scores[pair] for pair in part]

            found = scored(filled, lambda pair: size[pair[0]] + size[pair[1]], score_part)
        return {pair: found.get(key, _NOTHING) for pair, key in keyed.items()}

    def encode(self, tokens: dict[str, list[int]], texts: Iterable[str]) -> dict[str, torch.Tensor]:
        """Each distinct text's token vectors [T, D] after the chosen layer."""
        import torch

        def states(batch: list[str]) -> torch.Tensor:
            ids = torch.tensor([tokens[text] for text in batch], device=self.device)  # [B, T]
            with torch.inference_mode():
                found: torch.Tensor = self.model(ids, attention_mask=torch.ones_like(ids))[0]
            return found  # [B, T, D]

        found: dict[str, torch.Tensor] = {}
        distinct = dict.fromkeys(texts)
        for batch in batches(distinct, lambda t: len(tokens[t]), self.scorer.batch_size):
            found.update(zip(batch, computed(batch, states), strict=True))
        return found

    def match(
        self, batch: list[Pair], tokens: dict[str, list[int]], vectors: dict[str, torch.Tensor]
    ) -> list[_Three]:
        """Greedy matching by cosine (equations 1 to 3 of the paper), by the library's function."""
        import torch
        from bert_score.utils import greedy_cos_idf

        special = torch.tensor([self.tokenizer.cls_token_id, self.tokenizer.sep_token_id])
        sides: list[torch.Tensor] = []
        for side in (1, 0):  # references first
            ids = torch.tensor([tokens[pair[side]] for pair in batch])  # [B, T]
            # Special tokens can be matched but don't count in the mean, as in the library.
            weights = (~torch.isin(ids, special)).float()
            states = torch.stack([vectors[pair[side]] for pair in batch])  # [B, T, D]
            sides += [states, torch.ones_like(ids).to(self.device), weights]
        rows: list[_Three] = torch.stack(greedy_cos_idf(*sides), dim=1).tolist()
        return [(p, r, f) for p, r, f in rows]

    def baseline(self, references: Iterable[str], seed: int = 0, draws: int = 1000) -> float:
        """F1 of unrelated texts, by which F1 is rescaled: (F1 - b) / (1 - b).

        The published value where there is one for this encoder and layer. Else as there, from
        random pairs: the mean over `draws` pairs of two different reference answers, seeded.
        """
        published = self.published_baseline()
        if published is not None:
            return published
        answers = sorted({normalise_lossy(reference) for reference in references} - {""})
        if len(answers) < 2:
            return 0.0
        rng = np.random.default_rng(seed)
        first = rng.integers(0, len(answers), draws)
        second = (first + rng.integers(1, len(answers), draws)) % len(answers)
        pairs = [(answers[i], answers[j]) for i, j in zip(first, second, strict=True)]
        scores = self.score(pairs)
        return float(np.mean([scores[pair][2] for pair in pairs]))

    def published_baseline(self) -> float | None:
        """bert_score's table for English: a file an encoder, a line a layer."""
        import bert_score
        import pandas as pd

        folder = Path(bert_score.__file__).parent / "rescale_baseline" / "en"
        file = folder / f"{Path(self.scorer.path).name}.tsv"
        if not file.is_file():
            return None
        table = pd.read_csv(file)
        return float(table.loc[table["LAYER"] == self.layer, "F"].to_numpy()[0])

    def signature(self) -> str:
        from importlib.metadata import version

        revision = f"@{self.scorer.revision}" if self.scorer.revision else ""
        return (
            f"{self.scorer.path}{revision}, layer {self.layer}, no idf, normalised strings, "
            f"an empty one scores 0; bert_score {version('bert_score')}, "
            f"transformers {version('transformers')}"
        )


def _chosen_layer(scorer: ScorerConfig, available: int) -> int:
    """The layer from the settings, else the one bert_score recommends, else the last.

    Raises:
        UserError: the encoder has fewer layers.
    """
    from bert_score.utils import model2layers

    layer = scorer.layer or int(model2layers.get(scorer.path, available))
    if layer > available:
        raise UserError(
            f"scorers.bertscore.layer is {layer}, but {scorer.path} has {available} layers."
        )
    return layer
