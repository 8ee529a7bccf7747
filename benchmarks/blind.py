"""The blind n-gram model on as many questions as the study's train split has.

    python benchmarks/blind.py                      # made-up questions of the study's statistics
    python benchmarks/blind.py --library            # the same by scikit-learn's Newton solver
    python benchmarks/blind.py --vqa FILE --seed 1  # a table of one's own
    python benchmarks/blind.py --minibatches        # as a larger table is fitted
    python benchmarks/blind.py --growing --rows 400000 --answers 100000   # words and answers grow

Fits on four fifths of the pictures, asks about the others, and prints accuracy, the way the fit
ended, processor seconds and the process's peak memory, imports included. Both ways fit the same
classes and penalty, one process each.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from helpers import many_questions, study_questions

from abo_vqa.core.tables import read_table
from abo_vqa.data.normalise import normalise
from abo_vqa.models.blind import baselines as blind
from abo_vqa.models.blind import ngrams


class Library:
    """scikit-learn's fit of the same model: every word, every distinct question and answer."""

    def __init__(self, questions: Sequence[str], answers: Sequence[str]) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression

        counts = Counter(answers)
        known = zip(questions, answers, strict=True)
        pairs = Counter((q, a) for q, a in known if counts[a] > 1)
        distinct = sorted(pairs)
        self.words = CountVectorizer(ngram_range=(1, 2), binary=True, dtype=np.float32)
        self.model = LogisticRegression(
            C=ngrams.INVERSE_REGULARIZATION, tol=1e-3, solver="newton-cg", max_iter=ngrams.STEPS
        )
        features = self.words.fit_transform([question for question, _ in distinct])
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always", ConvergenceWarning)
            weights = [pairs[pair] for pair in distinct]
            self.model.fit(features, [answer for _, answer in distinct], sample_weight=weights)
        self.converged = not any(issubclass(w.category, ConvergenceWarning) for w in raised)

    def __call__(self, questions: Sequence[str]) -> tuple[list[str], list[float]]:
        parts = [questions[i : i + 4096] for i in range(0, len(questions), 4096)]
        predictions = np.concatenate(
            [self.model.predict(self.words.transform(part)) for part in parts]
        )
        return [str(answer) for answer in predictions], []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=study_questions.ROWS)
    parser.add_argument("--vqa", type=Path, help="image_path, question, answer")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--library", action="store_true", help="scikit-learn's solver")
    parser.add_argument("--growing", action="store_true", help="helpers/many_questions.py's table")
    parser.add_argument("--minibatches", action="store_true", help="however small the table is")
    parser.add_argument(
        "--answers", type=int, default=ngrams.MINIBATCH_ANSWERS, help="that these fit"
    )
    args = parser.parse_args()
    ngrams.MINIBATCH_ANSWERS = args.answers
    if args.minibatches:
        ngrams.QUESTION_CELLS = 0
    if args.vqa:
        table = read_table(args.vqa, ("image_path", "question", "answer"))
    elif args.growing:
        table = many_questions.table(args.rows)
    else:
        table = study_questions.table(args.rows, max(1, round(args.rows / 3.08)))
    print(study_questions.describe(list(table["question"]), list(table["answer"])))
    pictures = np.random.default_rng(args.seed).permutation(sorted(set(table["image_path"])))
    held_out = table["image_path"].isin(set(pictures[: len(pictures) // 5]))
    train, test = table[~held_out], table[held_out]
    known = blind.unify_spelling(list(train["question"]), list(train["answer"]))
    references = [normalise(answer) for answer in test["answer"]]
    others = {
        "majority": blind.fit_majority,
        "type": blind.fit_type_majority,
        "question": blind.fit_question_lookup,
    }
    fits = {} if args.library else others
    fits["ngram"] = Library if args.library else blind.fit_ngrams
    for name, fit in fits.items():
        start = time.process_time()
        fitted = fit(*known)
        predictions, _ = fitted(list(test["question"]))
        used = time.process_time() - start
        right = np.mean([normalise(s) == w for s, w in zip(predictions, references, strict=True)])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        part = blind.describe_part(fitted)
        print(
            f"{name:9} {len(known[0]):,} rows: accuracy {right:.4f} of {len(test):,}, ended: "
            f"{blind.converged(fitted)}, {used:.1f} processor seconds, {peak:.0f} MB"
            + (f", on {part}" if part else "")
        )


if __name__ == "__main__":
    main()
