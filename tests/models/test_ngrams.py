"""The n-gram model's fit: the library's optimum, a question one row, in single precision."""

from collections import Counter

import numpy as np
import pytest
from scipy import sparse

from abo_vqa.models.blind import ngrams
from abo_vqa.models.blind.ngrams import Ngrams, Softmax

NOUNS = [f"thing{i}" for i in range(60)]
FORMS = {"What color is the {}?": ["red", "blue", "green", "black"],
         "How many {} are there?": ["one", "two", "three"],
         "Is the {} round?": ["yes", "no"],
         "What is the {} made of?": ["wood", "steel", "glass", "paper", "clay"]}  # fmt: skip


@pytest.fixture(scope="module")
def pairs() -> Counter[tuple[str, str]]:
    """3,000 rows: an answer goes with the form, and half the time with the noun."""
    rng = np.random.default_rng(0)
    found: Counter[tuple[str, str]] = Counter()
    for _ in range(3000):
        form = str(rng.choice(list(FORMS)))
        noun = int(60 * rng.random() ** 2)
        listed = FORMS[form]
        place = noun if rng.random() < 0.5 else int(len(listed) * rng.random() ** 2)
        found[form.format(NOUNS[noun]), listed[place % len(listed)]] += 1
    return found


@pytest.fixture
def loss() -> Softmax:
    rng = np.random.default_rng(1)
    seen = sparse.csr_array((rng.random((7, 5)) < 0.5).astype(np.float32))
    given = sparse.csr_array(rng.integers(0, 4, (7, 3)).astype(np.float32))
    return Softmax(seen, given, 2.0)


def test_gradient_and_hessian_are_the_loss_s_derivatives(loss: Softmax) -> None:
    rng = np.random.default_rng(2)
    at, along = (rng.normal(size=loss.start.size).astype(np.float32) for _ in range(2))
    size = np.float32(1e-2)
    before, after = (loss.value(at + sign * size * along) for sign in (-1, 1))
    gradient, product = loss.value(at)[1], loss.hessian(at, along)
    assert gradient @ along == pytest.approx((after[0] - before[0]) / (2 * size), rel=1e-3)
    np.testing.assert_allclose(product, (after[1] - before[1]) / (2 * size), rtol=0.02, atol=0.02)


def test_it_ends_where_scikit_learn_ends(pairs, monkeypatch) -> None:
    from sklearn.linear_model import LogisticRegression

    monkeypatch.setattr(ngrams, "TOLERANCE", 1e-5)
    ours = Ngrams(pairs)
    asked = sorted({question for question, _ in pairs})
    library = LogisticRegression(C=ngrams.INVERSE_REGULARIZATION, tol=1e-6, max_iter=1000)
    distinct = sorted(pairs)
    library.fit(
        ours.vectorizer.transform([q for q, _ in distinct]).astype(np.float64),
        [a for _, a in distinct],
        sample_weight=[pairs[pair] for pair in distinct],
    )
    chances = library.predict_proba(ours.vectorizer.transform(asked))
    said, sure = ours(asked)
    assert ours.converged
    np.testing.assert_allclose(sure, chances.max(axis=1), atol=2e-3)
    assert said == [library.classes_[best] for best in chances.argmax(axis=1)]


def test_a_fit_is_in_single_precision(pairs, monkeypatch) -> None:
    """Double precision doubles the memory, and SciPy keeps what it is given."""
    kinds = set()
    plain = Softmax.hessian

    def noted(self, flat, along):
        product = plain(self, flat, along)
        kinds.update((flat.dtype.name, along.dtype.name, product.dtype.name))
        return product

    monkeypatch.setattr(Softmax, "hessian", noted)
    assert Ngrams(pairs).weights.dtype == np.float32
    assert kinds == {"float32"}


def test_a_question_is_one_row_and_words_that_go_together_one_column(pairs, monkeypatch) -> None:
    shapes = []
    plain = Softmax.__init__

    def seen_by(self, seen, given, strength):
        shapes.append((seen.shape, given.shape))
        plain(self, seen, given, strength)

    monkeypatch.setattr(Softmax, "__init__", seen_by)
    more = pairs + Counter({("What color is the zeppelin on the quay?", "red"): 1})
    fitted = Ngrams(more)
    questions = {question for question, _ in more}
    assert shapes[0][0][0] == shapes[0][1][0] == len(questions) < len(more)
    alone = ["zeppelin", "quay", "the zeppelin", "zeppelin on", "on the", "the quay"]
    columns = {int(fitted.merged[[fitted.vectorizer.vocabulary_[w]]].indices[0]) for w in alone}
    assert len(columns) == 1
    assert shapes[0][0][1] == len(set(fitted.merged.indices)) < len(fitted.vectorizer.vocabulary_)


def test_merged_words_change_no_probability(pairs, monkeypatch) -> None:
    """The same minimum with every word for itself, also asked about a part of them."""
    more = pairs + Counter({("What color is the zeppelin on the quay?", "red"): 3})
    asked = ["What color is the zeppelin?", "Is it on the quay?", *(q for q, _ in pairs)]
    monkeypatch.setattr(ngrams, "TOLERANCE", 1e-7)
    said, sure = Ngrams(more)(asked)
    monkeypatch.setattr(
        ngrams, "merge_columns", lambda seen: sparse.eye_array(seen.shape[1]).tocsr()
    )
    expected, confident = Ngrams(more)(asked)
    assert said == expected
    np.testing.assert_allclose(sure, confident, atol=2e-3)


def test_of_many_questions_and_answers_the_most_frequent_are_fitted(monkeypatch) -> None:
    pairs = {("What is it?", "lamp"): 5, ("what is IT?", "chair"): 2, ("Rare?", "lamp"): 1,
             ("Color?", "red"): 4, ("Color?", "blue"): 1}  # fmt: skip
    assert ngrams.limit_pairs(pairs) == pairs
    monkeypatch.setattr(ngrams, "QUESTIONS", 2)
    without_rare = {pair: n for pair, n in pairs.items() if pair[0] != "Rare?"}
    assert ngrams.limit_pairs(pairs) == without_rare
    monkeypatch.setattr(ngrams, "QUESTION_CELLS", 6)  # three answers to two questions
    assert ngrams.limit_pairs(pairs) == {
        pair: n for pair, n in without_rare.items() if pair[1] != "blue"
    }


def test_of_many_words_the_most_frequent_are_fitted(monkeypatch) -> None:
    asked = {
        ("color red lamp", "red"): 3,
        ("color blue lamp", "blue"): 3,
        ("color of it", "red"): 2,
    }
    monkeypatch.setattr(ngrams, "WEIGHT_CELLS", 4)  # two words by two answers
    model = Ngrams(asked)
    assert model.weights.shape == (3, 2)  # and the intercept
    words = model.vectorizer.get_feature_names_out()
    kept = {word for word, n in zip(words, np.diff(model.merged.indptr), strict=True) if n}
    assert kept == {"color", "lamp"}
    assert len(model(["color of what"])[0]) == 1


def test_the_study_s_split_is_within_the_limits() -> None:
    questions, words, answers = 15_600, 8_500, 1_300
    assert questions <= ngrams.QUESTIONS
    assert questions * answers <= ngrams.QUESTION_CELLS
    assert words * answers <= ngrams.WEIGHT_CELLS
