"""The registered model: what it accepts, how a row fails, and that it answers as the pipeline."""

import base64
import io
import os
import shutil
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.core.tables import read_table
from abo_vqa.core.tracking.backend import connect
from abo_vqa.data.archive import open_archive
from abo_vqa.stages import finetune
from tests.support import training as project
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
    return mlflow.pyfunc.load_model(f"models:/{NAME}@champion")


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
    assert "too long" in errors[6]
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
        assert "isn't a public host" in ask(model, [url], [question])["error"].iloc[0]
        monkeypatch.setenv("ABO_VQA_FETCH_NETWORKS", "127.0.0.0/8")
        answers = ask(model, [url, url + "x"], [question] * 2)
        server.shutdown()
    assert answers["answer"].iloc[0] == expected[0]
    assert "can't fetch" in answers["error"].iloc[1]


def test_files_outside_the_operators_folder_arent_read(trained, model, tmp_path, monkeypatch):
    _, rows, expected, contents, _ = trained
    inside, outside = tmp_path / "in", tmp_path / "out.jpg"
    inside.mkdir()
    for file in (inside / "a.jpg", outside):
        file.write_bytes(contents[0])
    (inside / "link.jpg").symlink_to(outside)
    monkeypatch.setenv("ABO_VQA_IMAGE_FOLDER", str(inside))
    images = ["a.jpg", str(inside / "a.jpg"), "../out.jpg", str(outside), "link.jpg"]
    answers = ask(model, images, [rows["question"].iloc[0]] * 5)
    assert answers["answer"].tolist() == [expected[0]] * 2 + [None] * 3
    assert answers["error"].str.contains("no image at").tolist()[2:] == [True] * 3


def test_it_answers_where_the_package_isnt_installed(trained, model, tmp_path):
    """In a process with its requirements only, from the copy of the package that it holds."""
    root, rows, expected, contents, _ = trained
    folder = tmp_path / "model"
    mlflow.artifacts.download_artifacts(f"models:/{NAME}@latest-sample", dst_path=str(folder))
    code = folder / "code/abo_vqa"
    assert {path.name for path in code.iterdir()} == {"__init__.py", "core", "data", "models"}
    assert sum(file.stat().st_size for file in code.rglob("*")) < 3_000_000
    (tmp_path / "0.jpg").write_bytes(contents[0])
    needed = [line.partition("==")[0] for line in (folder / "requirements.txt").open()]
    environment = {**os.environ, "PYTHONPATH": str(only(needed, tmp_path / "packages"))}
    # -S leaves out this environment's packages, and with them the project itself.
    words = [sys.executable, "-S", "-c", ELSEWHERE, folder, root, rows["question"].iloc[0]]
    done = subprocess.run(
        list(map(str, words)), cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1:] == [expected[0]], done.stderr


def only(needed, folder):
    """A folder with some packages and what they need: links into this environment."""
    waiting, names = [canonicalize_name(name) for name in needed], set()
    folder.mkdir()
    while waiting:
        name = waiting.pop()
        if name in names:
            continue
        names.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform
        for part in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (folder / part).exists():
                (folder / part).symlink_to(distribution.locate_file(part))
        needs = map(Requirement, distribution.requires or [])
        waiting += [
            canonicalize_name(need.name)
            for need in needs
            if need.marker is None or need.marker.evaluate({"extra": ""})
        ]
    return folder


ELSEWHERE = """
import sys
import mlflow, pandas
folder, root, question = sys.argv[1:]
mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
model = mlflow.pyfunc.load_model(folder)
import abo_vqa
assert abo_vqa.__file__.startswith(folder), abo_vqa.__file__
answers = model.predict(pandas.DataFrame({"image": ["0.jpg"], "question": [question]}))
parts = {name.split(".")[1] for name in sys.modules if name.startswith("abo_vqa.")}
assert parts == {"core", "data", "models"}, parts
print(answers["answer"].iloc[0])
"""


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
    newest_version = str(newest.version)
    aliases = client.get_registered_model(NAME).aliases
    assert {alias: str(version) for alias, version in aliases.items()} == {
        "latest-sample": newest_version,
        "champion": "1",
        "champion-sample": "1",
        "challenger": newest_version,
        "challenger-sample": newest_version,
    }
    assert newest.tags["best_validation_accuracy"]
    assert newest.tags["decision"].startswith("not better than version 1: ")
    assert newest.tags["decision"].endswith(" held-out rows, p = 1.00")
    assert f"LoRA on models/blip: rank {load_config().lora.r}, " in newest.description
    assert f"of {newest.tags['held_out_rows']} held-out rows (95% interval" in newest.description
    assert newest.tags["decision"] in newest.description
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/{newest.version}"))
    needed = (folder / "requirements.txt").read_text().split()
    assert all("==" in line and "+" not in line for line in needed), needed
    assert finetune.ADAPTER.is_dir()


def test_the_example_is_a_real_question_that_the_model_answers(model):
    example = model.input_example
    (row,) = example.to_dict("records")
    image = Image.open(io.BytesIO(base64.b64decode(row["image"])))
    assert image.format == "JPEG"
    answers = model.predict(example)
    assert answers["error"].isna().all()
    assert answers["answer"].notna().all()


def test_a_moved_project_still_serves_its_model_and_artifacts(trained, tmp_path, monkeypatch):
    moved = shutil.copytree(trained[0], tmp_path / "moved here")
    hidden = trained[0].with_name("hidden")
    trained[0].rename(hidden)  # nothing may be read at the old place
    try:
        monkeypatch.chdir(moved)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert main(["tracking"]) == 0
        client = connect()
        model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
        assert model.predict(model.input_example)["error"].isna().all()
        version = client.get_model_version_by_alias(NAME, "champion")
        files = [file.path for file in client.list_artifacts(version.run_id)]
        assert "training.json" in files
    finally:
        hidden.rename(trained[0])


def test_a_base_with_other_names_for_its_weights_isnt_served(trained, tmp_path, monkeypatch):
    """transformers would put random numbers in their place, and the model would answer."""
    from safetensors.torch import load_file, save_file

    from abo_vqa.core.errors import UserError
    from abo_vqa.models.registered import AdaptedModel

    base = shutil.copytree(trained[0] / "models/blip", tmp_path / "base")
    file = base / "model.safetensors"
    weights = {k.replace("vision_model.", "eyes."): t for k, t in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    adapter = trained[0] / "models/adapter"
    settings = {"base": str(base), "family": "blip"}
    context = SimpleNamespace(artifacts={"adapter": str(adapter)}, model_config=settings)
    with pytest.raises(UserError, match=r"lacks \d+ of this model's weights"):
        AdaptedModel().load_context(context)
