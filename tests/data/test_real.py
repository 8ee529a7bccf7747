"""Real pictures, catalogue entries and questions through the pipeline's own functions."""

from __future__ import annotations

import io
import random
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from abo_vqa.core.config import Config
from abo_vqa.core.json_files import read_json
from abo_vqa.core.tables import read_table
from abo_vqa.data.archive import open_archive
from abo_vqa.data.image_decoding import decode
from abo_vqa.data.normalise import same_answer
from abo_vqa.reporting.publish.choices import DistractorSampler
from abo_vqa.reporting.publish.synonyms import synonym_test
from abo_vqa.stages import curate
from abo_vqa.stages import generate as generate
from tests.support.annotation import REPOSITORY, configure, defaults

SPELLINGS = (
    "{}",
    "images/small/{}",
    "/kaggle/input/amazon-berkeley/abo-images-small/images/small/{}",
    " {} ",
)


def configured(folder: Path, raw: Path, **settings: object) -> Config:
    """The sample's configuration on the real archives, uncapped, in `folder`."""
    (folder / "data").mkdir()
    (folder / "conf").symlink_to(REPOSITORY / "conf")
    config = configure(folder, **settings)
    sections = {
        "data": config.data.model_copy(update={"raw": raw}),
        "curate": config.curate.model_copy(update={"cap": 5000}),
    }
    return config.model_copy(update=sections)


@pytest.fixture(scope="module")
def curated(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        curate.run(configured(folder, real))
    return folder


def test_curation_counts_every_picture_and_hashes_as_before(curated: Path, real: Path) -> None:
    funnel = read_json(curated / "data" / "funnel.json")
    assert funnel["images"] == 4000 == funnel["clean"] + sum(funnel["dropped"].values())
    assert funnel["dropped"] == {"no_keywords": 18}
    table = read_table(curated / "data" / "balanced.csv")
    assert len(table) == funnel["balanced"] == 3982
    known = read_table(real / "hashes.csv").merge(table, on="image_path")
    assert len(known) > 1000
    assert known["image_sha1_x"].tolist() == known["image_sha1_y"].tolist()
    assert known["phash_x"].tolist() == known["phash_y"].tolist()


def test_a_table_in_any_spelling_gives_the_same_set(
    curated: Path, real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(curated)
    table = read_table(real / "vqa.csv")
    chance, sets = random.Random(0), []
    for spellings in (SPELLINGS[:1], SPELLINGS):
        paths = [chance.choice(spellings).format(path) for path in table["image_path"]]
        table.assign(image_path=paths).to_csv("mine.csv", index=False)
        config = configure(curated, annotator="file", file="mine.csv")
        data = config.data.model_copy(update={"raw": real})
        generate.run(config.model_copy(update={"data": data}))
        sets.append(read_table(curated / "data" / "generated.csv"))
    pd.testing.assert_frame_equal(*sets)
    assert len(sets[0]) == len(table)
    assert (sets[0]["phash"] != "").all()
    # Eighteen pictures were curated away: what product they show isn't known.
    assert sets[0].loc[sets[0]["item_id"] == "", "image_path"].nunique() == 18


def test_choices_of_real_answers_hold_the_right_one_once(real: Path) -> None:
    rows = read_table(real / "vqa.csv").to_dict("records")
    aliases = REPOSITORY / defaults().evaluate.aliases
    chooser = DistractorSampler(rows, 4, 0, synonym_test(aliases, (row["answer"] for row in rows)))
    for number, row in enumerate(rows):
        chosen = chooser.choices(number)
        right = [same_answer(choice, row["answer"]) for choice in chosen.options]
        assert sum(right) == 1
        assert right[chosen.answer]


def test_abos_own_pictures_are_decoded_as_they_are_stored_and_without_a_remark(real: Path) -> None:
    with open_archive(real) as archive, warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in archive.image_paths()[::20]:
            data = archive.read(path)
            seen = decode(data, path)
            stored = Image.open(io.BytesIO(data)).convert("RGB")
            assert np.array_equal(np.asarray(seen), np.asarray(stored)), path
