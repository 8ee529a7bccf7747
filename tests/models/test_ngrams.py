"""The n-gram model's fit: the library's optimum, a question one row, in single precision."""

from collections import Counter

import numpy as np
import pytest
from scipy import sparse

from abo_vqa.models.blind import minibatches, ngrams
from abo_vqa.models.blind.minibatches import MinibatchFit
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


@pytest.fixture
def large(monkeypatch) -> None:
    """Whatever is fitted counts as too large for a fit to convergence."""
    monkeypatch.setattr(ngrams, "QUESTION_CELLS", 1)


def test_minibatches_end_near_the_minimum(pairs, large, monkeypatch) -> None:
    monkeypatch.setattr(minibatches, "PASSES", 60)
    fitted = Ngrams(pairs)
    monkeypatch.setattr(ngrams, "QUESTION_CELLS", 1 << 25)
    exact = Ngrams(pairs)
    asked = sorted({question for question, _ in pairs})
    predicted, confidences = fitted(asked)
    expected, likeliest = exact(asked)
    assert np.mean([a == b for a, b in zip(predicted, expected, strict=True)]) > 0.97
    assert np.mean(np.abs(np.subtract(confidences, likeliest))) < 0.02
    assert fitted.converged
    assert fitted.part is exact.part is None


def test_a_batch_s_steps_follow_the_loss_s_gradient(monkeypatch) -> None:
    """One batch with all questions: the squares that it leaves are the squared gradient."""
    rng = np.random.default_rng(1)
    words = rng.random((7, 5)) < 0.5
    words[0] = True
    asked = sparse.csr_array(words.astype(np.float32))
    given = sparse.csr_array(rng.integers(1, 3, (7, 3)).astype(np.float32))
    monkeypatch.setattr(minibatches, "ROWS_PER_VISIT", 100)  # each question once a pass
    fit = MinibatchFit(asked, given, 2.0)
    loss = Softmax(asked, given, 2.0)
    fit.weights[:-1] = rng.normal(size=(5, 3))
    gradient = loss.value((fit.weights / loss._scale).ravel())[1].reshape(6, 3) / loss._scale
    fit._step(np.arange(7), np.float32(0.1))
    np.testing.assert_allclose(fit._squares[:-1], gradient[:-1] ** 2, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(fit._squares[-1], 1 + gradient[-1] ** 2, rtol=1e-3)


def test_a_pass_visits_every_row_once(pairs, large, monkeypatch) -> None:
    """A question that was asked often is visited in parts, in batches of bounded size."""
    rows: Counter[int] = Counter()
    sizes = []
    plain = MinibatchFit._step

    def watched(self, visited, rate):
        sizes.append(len(visited))
        for question in visited.tolist():
            rows[question] += self._rows[question]
        plain(self, visited, rate)

    monkeypatch.setattr(MinibatchFit, "_step", watched)
    monkeypatch.setattr(minibatches, "PASSES", 1)
    monkeypatch.setattr(minibatches, "BATCH", 16)
    Ngrams(pairs)
    assert max(sizes) == 16
    by_question: Counter[str] = Counter()
    for (question, _), count in pairs.items():
        by_question[question.lower()] += count
    expected = [by_question[question] for question in sorted(by_question)]
    np.testing.assert_allclose([rows[i] for i in range(len(expected))], expected, rtol=1e-5)


def test_minibatches_are_the_same_in_any_order_of_rows(pairs, large) -> None:
    asked = sorted({question for question, _ in pairs})
    turned = Counter(dict(reversed(pairs.items())))
    assert Ngrams(turned)(asked) == Ngrams(pairs)(asked)


def test_of_many_answers_the_most_frequent_are_fitted() -> None:
    pairs = {("What is it?", "lamp"): 5, ("what is IT?", "chair"): 2, ("Rare?", "lamp"): 1,
             ("Color?", "red"): 4, ("Color?", "blue"): 2}  # fmt: skip
    assert ngrams.limit_answers(pairs, 4) == pairs
    assert ngrams.limit_answers(pairs, 3) == {
        pair: n for pair, n in pairs.items() if pair[1] != "chair"
    }


def test_what_a_large_fit_leaves_out_is_counted(large, monkeypatch) -> None:
    asked = {("color red lamp", "red"): 3, ("color blue lamp", "blue"): 3,
             ("color of it", "red"): 2, ("color of them", "gray"): 2}  # fmt: skip
    assert Ngrams(asked).part is None
    monkeypatch.setattr(ngrams, "MINIBATCH_ANSWERS", 2)
    assert str(Ngrams(asked).part) == "2 of 3 answers (80.0% of the rows)"
    monkeypatch.setattr(ngrams, "MINIBATCH_WORDS", 2)
    model = Ngrams(asked)
    assert str(model.part) == (
        "2 of 3 answers (80.0% of the rows) and 2 of 5 words and pairs of words"
    )
    assert model.weights.shape == (3, 2)  # and the intercept
    words = model.vectorizer.get_feature_names_out()
    kept = {word for word, n in zip(words, np.diff(model.merged.indptr), strict=True) if n}
    assert kept == {"color", "lamp"}
    assert len(model(["color of what"])[0]) == 1


def test_the_study_s_split_is_fitted_to_convergence() -> None:
    questions, words, answers = 15_600, 8_500, 1_300
    assert questions * answers <= ngrams.QUESTION_CELLS
    assert words * answers <= ngrams.WEIGHT_CELLS
