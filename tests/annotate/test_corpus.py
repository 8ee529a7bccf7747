from __future__ import annotations

from abo_vqa.annotate.corpus import check_corpus, image_folds


def rows(n: int, answer: str = "") -> list[dict[str, str]]:
    """Two rows per image: a color that only the image tells, and a yes/no question."""
    made = []
    for i in range(n):
        color = answer or ("red", "blue", "green", "white")[i * 7919 % 4]
        for question, given in (("What color is it?", color), ("Is it new?", "yes")):
            made.append({"image_path": f"{i}.jpg", "question": question, "answer": given,
                         "product_type": "mug"})  # fmt: skip
    return made


def test_counts() -> None:
    found = check_corpus([*rows(40), rows(1)[0]], 42, 0.5)
    assert found["duplicate_pairs"] == 1
    assert found["unique_questions"] == 2
    assert found["unique_answers"] == 5
    assert found["yes_no"] == {"yes": 40, "no": 0, "yes_share": 1.0}
    assert found["types"]["least_diverse"] == "mug"
    assert found["types"]["least_diversity"] == round(2 / 81, 4)
    assert any("100% of the yes/no answers are yes" in said for said in found["warnings"])
    assert any("1 rows repeat" in said for said in found["warnings"])


def test_blind_share_is_cross_fitted() -> None:
    """ "yes" can be told without the image; a colour only by luck, never by memory."""
    found = check_corpus(rows(200), 42, None)["answerable_without_picture"]
    assert 0.5 <= found["question"] < 0.75
    assert 0.5 <= found["ngram"] < 0.75
    unique = [
        {"image_path": f"{i}.jpg", "question": f"What is item {i}?", "answer": f"a{i}"}
        for i in range(50)
    ]
    assert check_corpus(unique, 42, None)["answerable_without_picture"]["question"] == 0
    always = check_corpus(rows(50, "red"), 42, None)
    assert always["answerable_without_picture"]["question"] == 1
    assert any("without the image" in said for said in always["warnings"])


def test_folds_keep_images_together() -> None:
    table = rows(23)
    folds = image_folds(table, 1)
    assert sorted(i for fold in folds for i in fold) == list(range(46))
    owner = {table[i]["image_path"]: f for f, fold in enumerate(folds) for i in fold}
    assert all(owner[table[i]["image_path"]] == f for f, fold in enumerate(folds) for i in fold)


def test_tiny_sets() -> None:
    assert check_corpus(rows(2), 42, 0.5)["answerable_without_picture"] == {}
    assert check_corpus([], 42, 0.5)["yes_no"]["yes_share"] is None
