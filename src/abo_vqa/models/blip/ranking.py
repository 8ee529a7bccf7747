"""Ranking of known answers with BLIP, as its own evaluation does (Li et al., 2022, section 5.3).

The question is encoded once, and one step of the decoder gives the probabilities of all first
tokens. The candidates with the likeliest ones are shortlisted, and only their exact likelihoods are
computed, from the second token on: the first step is shared by all of them.

Shapes: B questions, C candidates, P pairs of a question and a candidate, of at most A tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from abo_vqa.models.blip.decoder import AnswerDecoder

_IGNORED = -100  # label of padding
_POSITIONS = 2048  # decoded at a time: their logits over BLIP's vocabulary take 250 MB


class AnswerScorer:
    """Likelihoods of given answers.

    Args:
        decoder: has decoded nothing yet.
        start: [B, 1], the start token.
        answers: the token ids of each of C answers, end token included.
    """

    def __init__(
        self, decoder: AnswerDecoder, start: Tensor, answers: Sequence[Sequence[int]]
    ) -> None:
        self._decoder = decoder
        self._first = decoder(start).float().log_softmax(-1).double()  # [B, vocabulary]
        self._lengths = torch.tensor([len(ids) for ids in answers])
        self._labels = pad_sequence([torch.tensor(ids) for ids in answers], True, _IGNORED).to(
            start.device
        )  # [C, A]

    def first_token_log_probs(self) -> Tensor:
        """Return the log-probability of each answer's first token, [B, C]."""
        return self._first[:, self._labels[:, 0]]

    def log_likelihoods(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Compute the log-likelihood of some answers to some questions.

        Args:
            rows: [P], the question of each pair.
            columns: [P], its answer; on the CPU, ideally.

        Returns:
            [P], on the CPU.
        """
        lengths = self._lengths[columns.cpu()]
        device = self._labels.device
        rows, columns = rows.to(device), columns.to(device)
        scores = self._first[rows, self._labels[columns, 0]]  # [P]
        # Answers of like lengths together, so that little is padding.
        order = lengths.argsort(stable=True)
        for piece in torch.split(order, max(1, _POSITIONS // int(lengths.max()))):
            longest = int(lengths[piece[-1]])
            if longest == 1:
                continue
            pairs = piece.to(device)
            labels = self._labels[columns[pairs], :longest]
            logits = self._decoder.continuations(rows[pairs], labels[:, :-1].clamp(min=0)).float()
            following = labels[:, 1:]
            chosen = logits.gather(2, following.clamp(min=0)[..., None])[..., 0]
            log_probs = chosen.double() - logits.logsumexp(-1).double()  # [pairs, longest - 1]
            scores[pairs] += log_probs.where(following != _IGNORED, 0.0).sum(1)
        return scores.cpu()


def top_candidates(scores: Tensor, k: int) -> Tensor:
    """Return the positions of the k highest scores of each row, the first of equal ones.

    `topk` makes no promise about equal scores, and candidates that start with the same token have
    the same.

    Args:
        scores: [B, C].
        k: how many.

    Returns:
        [B, min(k, C)], on the CPU.
    """
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :k].cpu()
