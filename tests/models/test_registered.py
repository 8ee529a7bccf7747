"""The registered model: what it accepts, how a row fails, and that it answers as the pipeline."""

import base64
import io
import os
import shutil
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pandas as pd
import pytest
from PIL import Image

from abo_vqa.cli import main
from abo_vqa.core.tables import read_table
from abo_vqa.core.tracking.backend import connect
from abo_vqa.data.archive import open_archive
from abo_vqa.data.image_decoding import decode
from abo_vqa.stages import finetune
from tests.support import training as project
from tests.support.images import corpus
from tests.support.stages import answer_with_adapter

NAME = "abo-vqa-blip-lora"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project whose adapter is registered."""
    root = project.make(tmp_path_factory.mktemp("served"))
    before = Path.cwd()
    os.chdir(root)
    try:
        config = project.set_lora({"epochs": 6, "lr": 0.03, "dropout": 0.0})
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", UserWarning)
            assert main(["finetune"]) == 0
        rows = read_table("data/train.csv").iloc[:6]
        expected = answer_with_adapter(config, rows)["prediction"].tolist()
        with open_archive("data/raw/sample") as archive:
            contents = [archive.read(path) for path in rows["image_path"]]
    finally:
        os.chdir(before)
    return root, rows, expected, contents, [str(w.message) for w in warned]


@pytest.fixture
def model(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    connect()
    return mlflow.pyfunc.load_model(f"models:/{NAME}@latest-sample")


def ask(model, images, questions):
    return model.predict(pd.DataFrame({"image": images, "question": questions}))


def test_registration_warns_of_nothing(trained):
    assert not [text for text in trained[-1] if "predict" in text or "input example" in text]


def test_images_in_every_form_are_answered_as_by_the_pipeline(trained, model, tmp_path):
    _, rows, expected, contents, _ = trained
    paths = []
    for at, data in enumerate(contents):
        paths.append(str(tmp_path / f"{at}.jpg"))
        Path(paths[-1]).write_bytes(data)
    plain = [base64.b64encode(data).decode() for data in contents]
    forms = {
        "path": paths,
        "bytes": contents,
        "base64": plain,
        "base64 in lines": [base64.encodebytes(data).decode() for data in contents],
        "data URL": [f"data:image/jpeg;base64,{text}" for text in plain],
    }
    for form, images in forms.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            answers = ask(model, images, rows["question"].tolist())
        assert answers["answer"].tolist() == expected, form
        assert answers["error"].isna().all(), form


def test_a_bad_row_fails_alone(trained, model):
    _, rows, expected, contents, _ = trained
    question, data = rows["question"].iloc[0], contents[0]
    images = [data, "nowhere.jpg", None, b"not an image", "", "a\0b", data, data, data, 3.5]
    questions = [question] * 6 + ["word " * 800, None, "", question]
    said = ask(model, images, questions)
    assert said["answer"].iloc[0] == expected[0]
    assert said["answer"].iloc[1:].isna().all()
    errors = said["error"].tolist()
    assert errors[0] is None
    assert "no image at 'nowhere.jpg'" in errors[1]
    assert "not an image that can be read" in errors[3]
    assert "tokens; at most" in errors[6]
    assert errors[7] == errors[8] == "no question given"


def test_addresses_are_fetched_only_where_allowed(trained, model, tmp_path, monkeypatch):
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    _, rows, expected, contents, _ = trained
    (tmp_path / "a.jpg").write_bytes(contents[0])
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.jpg"
        question = rows["question"].iloc[0]
        assert "ABO_VQA_FETCH_URLS=1" in ask(model, [url], [question])["error"].iloc[0]
        monkeypatch.setenv("ABO_VQA_FETCH_URLS", "1")
        answers = ask(model, [url, url + "x"], [question] * 2)
        server.shutdown()
    assert answers["answer"].iloc[0] == expected[0]
    assert "can't fetch" in answers["error"].iloc[1]


def test_images_as_a_browser_shows_them(model):
    serving = sys.modules[type(model.unwrap_python_model()).__module__]
    shown = serving._open_image

    def saved(image, form, **options):
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        return shown(buffer.getvalue())

    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert saved(clear, "PNG").getpixel((0, 0)) == (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert saved(Image.new("RGB", (8, 4)), "JPEG", exif=exif).size == (4, 8)
    grey = saved(Image.new("I;16", (4, 4), 32768), "PNG").getpixel((0, 0))
    assert grey == (128, 128, 128)
    for name, data in corpus().items():
        assert shown(data).tobytes() == decode(data, "a").tobytes(), name


def test_the_base_is_stored_once_and_versions_are_pinned(trained, monkeypatch):
    root = trained[0]
    monkeypatch.chdir(root)
    client = connect()
    for _ in range(2):
        finetune_again = main(["finetune"])
        assert finetune_again == 0
    versions = client.search_model_versions(f"name = '{NAME}'")
    assert len(versions) == 3
    assert len(list((root / "mlartifacts").rglob("model.safetensors"))) == 1
    newest = max(versions, key=lambda version: int(version.version))
    aliases = client.get_registered_model(NAME).aliases
    assert aliases == {"latest-sample": newest.version, "champion-sample": newest.version}
    assert newest.tags["best_validation_accuracy"]
    assert "LoRA on models/blip" in newest.description
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/{newest.version}"))
    needed = (folder / "requirements.txt").read_text().split()
    assert all("==" in line and "+" not in line for line in needed), needed
    assert finetune.ADAPTER.is_dir()


def test_a_base_with_other_names_for_its_weights_isnt_served(trained, tmp_path, monkeypatch):
    """transformers would put random numbers in their place, and the model would answer."""
    from safetensors.torch import load_file, save_file

    from abo_vqa.models.registered import AdaptedModel

    base = shutil.copytree(trained[0] / "models/blip", tmp_path / "base")
    file = base / "model.safetensors"
    weights = {k.replace("vision_model.", "eyes."): t for k, t in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    adapter = trained[0] / "models/adapter"
    context = SimpleNamespace(artifacts={"adapter": str(adapter)}, model_config={"base": str(base)})
    with pytest.raises(ValueError, match=r"lacks \d+ of the model's weights"):
        AdaptedModel().load_context(context)
