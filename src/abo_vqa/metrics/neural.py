"""BERTScore and BARTScore, once per distinct pair, independent of the batch a pair is in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.metrics.normalise import norm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from abo_vqa.config import Scorer

Pair = tuple[str, str]


class BertScore:
    """BERTScore (Zhang et al., 2020, arXiv:1904.09675) through the library bert_score.

    On normalised strings, without idf. An empty side scores 0 (the library raises). The library
    pads the pairs of a batch with zero similarities, which beat negative ones; pairs of equal
    lengths are scored together, so that nothing is padded.
    """

    names = ("bertscore_precision", "bertscore_recall", "bertscore_f1")

    def __init__(self, scorer: Scorer, device: str = "cpu") -> None:
        from bert_score import BERTScorer
        from transformers import AutoConfig, AutoTokenizer

        self.path, self.layer, self.batch_size = scorer.path, scorer.layer, scorer.batch_size
        self.library = BERTScorer(
            model_type=scorer.path, num_layers=scorer.layer, device=device, use_fast_tokenizer=True
        )
        options: dict[str, Any] = {"revision": scorer.revision}
        if (
            AutoConfig.from_pretrained(scorer.path, revision=scorer.revision).model_type
            == "roberta"
        ):
            # bert_score asks for the space before the first word, transformers 5 ignores how; the
            # published scores have it ("Ġred", not "red").
            options["add_prefix_space"] = True
        self.library._tokenizer = AutoTokenizer.from_pretrained(scorer.path, **options)

    def score(self, pairs: Sequence[Pair]) -> dict[Pair, tuple[float, float, float]]:
        """Precision, recall and F1 of each distinct (prediction, reference)."""
        keyed = {pair: (norm(pair[0]), norm(pair[1])) for pair in pairs}
        lengths: dict[tuple[int, int], list[Pair]] = {}
        count = {s: len(self.library._tokenizer(s)["input_ids"]) for p in keyed.values() for s in p}
        for pair in dict.fromkeys(keyed.values()):
            if all(pair):
                lengths.setdefault((count[pair[0]], count[pair[1]]), []).append(pair)
        found: dict[Pair, tuple[float, float, float]] = {}
        for group in lengths.values():
            said, wanted = zip(*group, strict=True)
            values = self.library.score(list(said), list(wanted), batch_size=self.batch_size)
            rows = zip(*(v.tolist() for v in values), strict=True)
            found.update(zip(group, rows, strict=True))
        return {pair: found.get(key, (0.0, 0.0, 0.0)) for pair, key in keyed.items()}

    def baseline(self, references: Sequence[str], seed: int = 0, draws: int = 1000) -> float:
        """F1 of unrelated answers, by which scores are rescaled: (F1 - b) / (1 - b).

        The library's published value where it has one for the encoder and layer; else, as there,
        the mean over random pairs: here of different reference answers, seeded.
        """
        import numpy as np

        try:
            return float(self.library.baseline_vals[2])
        except (ValueError, FileNotFoundError, OSError, TypeError):
            pass  # no published baseline: the usual case of a small encoder
        answers = sorted({norm(reference) for reference in references} - {""})
        if len(answers) < 2:
            return 0.0
        rng = np.random.default_rng(seed)
        drawn = [rng.choice(len(answers), 2, replace=False) for _ in range(draws)]
        pairs = [(answers[i], answers[j]) for i, j in drawn]
        scores = self.score(pairs)
        return float(np.mean([scores[pair][2] for pair in pairs]))


class BartScore:
    """BARTScore (Yuan et al., 2021, arXiv:2106.11520): log-likelihood of the reference.

    Minus the mean loss of the raw reference's tokens given the raw prediction. An empty prediction
    is an empty source, scored like any other.
    """

    def __init__(self, scorer: Scorer, device: str = "cpu") -> None:
        from transformers import AutoTokenizer, BartForConditionalGeneration

        self.path, self.batch_size, self.device = scorer.path, scorer.batch_size, device
        self.tokenizer = AutoTokenizer.from_pretrained(scorer.path, revision=scorer.revision)
        model = BartForConditionalGeneration.from_pretrained(scorer.path, revision=scorer.revision)
        self.model = model.float().eval().to(device)

    def score(self, pairs: Sequence[Pair]) -> dict[Pair, float]:
        """The score of each distinct (prediction, reference)."""
        import torch

        # Pairs of similar length share a batch: less padding, which the masks leave out anyway.
        distinct = sorted(dict.fromkeys(pairs), key=lambda p: (len(p[0]) + len(p[1]), p))
        found: dict[Pair, float] = {}
        for start in range(0, len(distinct), self.batch_size):
            part = distinct[start : start + self.batch_size]
            source = self.tokenizer([p for p, _ in part], return_tensors="pt", padding=True)
            target = self.tokenizer([r for _, r in part], return_tensors="pt", padding=True)
            labels = target["input_ids"].to(self.device)  # [B, T]
            mask = target["attention_mask"].to(self.device)
            with torch.inference_mode():
                logits = self.model(
                    input_ids=source["input_ids"].to(self.device),
                    attention_mask=source["attention_mask"].to(self.device),
                    labels=labels,
                ).logits  # [B, T, V]
            likely = logits.log_softmax(-1).gather(2, labels[..., None])[..., 0]  # [B, T]
            means = (likely * mask).sum(1) / mask.sum(1)
            found.update(zip(part, means.tolist(), strict=True))
        return found


def spread(values: dict[Pair, Any], pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """Values of distinct pairs back to all rows: [n] or [n, k]."""
    import numpy as np

    return np.array([values[pair] for pair in pairs], dtype=np.float64)
