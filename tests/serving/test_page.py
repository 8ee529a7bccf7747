"""The page's functions without a browser: replies, messages, escaping, what is served."""

import re
import threading
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import ADAPTER, TEST
from abo_vqa.core.tables import read_table
from abo_vqa.models.answering.adhoc import answer_question
from abo_vqa.models.blip.model import Blip
from abo_vqa.reporting import style
from abo_vqa.serving.page import mounting
from abo_vqa.serving.page.blocks import TryPage
from abo_vqa.serving.page.products import Products
from abo_vqa.serving.page.rendering import read_asset, render_header, render_questions
from abo_vqa.serving.page.respondents import Respondents
from tests.support.try_page import MARKUP


@pytest.fixture(autouse=True)
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


@pytest.fixture(scope="module")
def page(project: Path, tmp_path_factory: pytest.TempPathFactory) -> TryPage:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        config = load_config()
        return TryPage(Respondents(config), Products.read(config))


def last(page: TryPage, file: Path | None, chosen: int | None, question: str) -> str:
    return list(page.ask(None if file is None else str(file), chosen, question))[-1]


def answers(html: str) -> list[str]:
    return re.findall(r'<p class="vqa-answer">(.*?)\s*(?:<span|</p>)', html)


def test_products_are_the_test_splits(page: TryPage) -> None:
    products = page.products.products
    assert {p.image_path for p in products} == set(read_table(TEST, ["image_path"])["image_path"])
    # One type after another.
    assert [p.product_type for p in products] == ["cellular phone case", "lamp", "shoes"]
    assert all(len(p.questions) == 3 for p in products)
    assert all(p.thumbnail.startswith("data:image/webp;base64,") for p in products)


def test_answers_are_those_of_ask(page: TryPage) -> None:
    """Zero-shot and fine-tuned answer as `abo-vqa ask` does, about the archive's own image."""
    config = load_config()
    pair, image = page.products.products[0].questions[0], page.products.image(0)
    html = last(page, None, 0, pair.question)
    wanted = [
        answer_question(name, config, ADAPTER, image, pair.question)[0][0] or "(empty)"
        for name in ("blip", "finetuned")
    ]
    assert answers(html)[:2] == wanted
    assert html.count('<article class="vqa-card') == 3
    assert f"Reference answer</span> {pair.answer}" in html
    assert html.count('<img class="vqa-heat"') == html.count('type="radio"') > 10
    assert "This model doesn&#39;t see the image" in html


def test_replies_come_one_by_one(page: TryPage) -> None:
    steps = list(page.ask(None, 0, "what color is it?"))
    assert [step.count("thinking …") for step in steps] == [3, 2, 1, 0]
    assert ['aria-busy="true"' in step for step in steps] == [True, True, True, False]


def test_an_image_is_encoded_once_for_models_with_equal_vision_weights(
    page: TryPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    last(page, None, 0, "what?")  # loads, and shares the weights
    counts = []
    encode = Blip.encode
    monkeypatch.setattr(Blip, "encode", lambda self, p: counts.append(len(p)) or encode(self, p))
    last(page, None, 1, "what?")
    assert counts == [1]


def test_mistakes_have_one_message(page: TryPage, tmp_path: Path) -> None:
    broken, huge, fine = tmp_path / "a.jpg", tmp_path / "b.bmp", tmp_path / "c.png"
    broken.write_bytes(b"not an image")
    header = bytearray(b"BM" + bytes(52))
    header[10], header[14], header[26], header[28] = 54, 40, 1, 24
    header[18:26] = (60_000).to_bytes(4, "little") * 2
    huge.write_bytes(header)
    Image.new("RGB", (40, 30), "red").save(fine)
    messages = {
        (None, "what?"): "Choose a product first, or upload an image: JPEG, PNG, WebP, GIF or BMP.",
        (broken, "what?"): "The image can&#39;t be read: not a JPEG, PNG, WebP, GIF or BMP. Upload",
        (huge, "what?"): "The image can&#39;t be read: absurd dimensions. Upload another one.",
        (tmp_path / "gone.jpg", "what?"): "The image isn&#39;t here any more. Upload it again.",
        (fine, "  "): "Write a question first, or choose one.",
        (fine, "lamp " * 500): "The question is too long: 2,499 characters, and 2,000 are allowed.",
    }
    for (file, question), message in messages.items():
        html = last(page, file, None, question)
        assert 'role="alert"' in html
        assert message in html
        assert "vqa-card" not in html
    # Within the page's limit, each model says how much room it has; the blind one has no limit.
    html = last(page, fine, None, "lamp " * 80)
    assert html.count("The question is too long: 82 tokens, room for") == 2
    assert len(answers(html)) == 1
    assert "isn&#39;t on the page any more" in last(page, None, 99, "what?")


def test_an_upload_is_checked_at_once(page: TryPage, tmp_path: Path) -> None:
    broken, fine = tmp_path / "a.png", tmp_path / "b.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing else")
    Image.new("RGB", (40, 30), "red").save(fine)
    assert "The image can&#39;t be read: " in page.check_upload(str(broken))
    assert page.check_upload(str(fine)) == ""


def test_the_samples_models_are_called_so(page: TryPage, monkeypatch) -> None:
    config = load_config()
    notice = "About any other image they answer at random."
    assert not page.respondents.from_sample
    blip = config.models.blip.model_copy(update={"path": "models/sample/blip"})
    models = config.models.model_copy(update={"blip": blip})
    config = config.model_copy(update={"models": models})
    others = ["clip-train", "blind"]
    for names, sample in ((["blip"], True), (["finetuned"], True), (others, False)):
        respondents = Respondents(config, names)
        assert respondents.from_sample is sample
        html = render_header(respondents.respondents, 3, from_sample=respondents.from_sample)
        assert (notice in html) is sample


def test_texts_are_escaped(page: TryPage, tmp_path: Path) -> None:
    file = tmp_path / "c.png"
    Image.new("RGB", (40, 30), "red").save(file)
    html = last(page, file, None, MARKUP)
    assert "&lt;img src=x onerror=&#34;" in html
    assert "<img src=x" not in html
    named = next(p for p in page.products.products if p.name == MARKUP)
    assert "<img src=x" not in render_questions(named)


def test_a_model_that_fails_concerns_its_own_column(tmp_path: Path) -> None:
    config = load_config()
    respondents = Respondents(config, ["vilt", "finetuned", "blind"], tmp_path / "nowhere")
    html = last(TryPage(respondents, Products.read(config)), None, 0, "what color is it?")
    assert len(answers(html)) == 2
    assert f"No adapter in {tmp_path}/nowhere; run the stage `finetune`, or give --adapter." in html
    with pytest.raises(UserError, match=r"no model is called 'bilp'\. Did you mean blip\?"):
        Respondents(config, ["bilp"])


def test_without_a_test_split_there_are_no_products(
    here: Path, monkeypatch, tmp_path: Path
) -> None:
    config = load_config()
    monkeypatch.chdir(tmp_path)
    assert Products.read(config).products == ()


def test_colours_are_the_reports() -> None:
    css = read_asset("page.css")
    light = css[: css.index(".dark")]
    for kind, color in style.KIND_COLORS.items():
        assert f"--{kind}: {color};".lower() in light.lower()
    assert f"--ink: {style.INK};" in light


@pytest.fixture(scope="module")
def client(project: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        app = FastAPI()
        mounting.mount_page(app, load_config())
        with TestClient(app) as client:
            yield client


def test_nothing_is_loaded_from_elsewhere(client: TestClient) -> None:
    html = client.get("/try/").text
    theme = client.get("/try/theme.css").text
    assert set(re.findall(r"https?://[^\"')\s]*", theme)) <= {"http://www.w3.org/2000/svg"}
    loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"']([^\"']+)", html)
    assert loaded
    assert [address for address in loaded if re.match(r"(https?:)?//", address)] == []
    config = client.get("/try/config").json()
    assert config["analytics_enabled"] is False
    assert (config["footer_links"], config["run_history"]) == ([], False)
    assert not (Path(mounting.__file__).parent / "blocks.pyi").exists()


def test_no_file_is_served_but_uploads(client: TestClient, here: Path) -> None:
    for path in ("/etc/passwd", here / "params.yaml", "params.yaml", here / "data/test.csv"):
        assert client.get(f"/try/gradio_api/file={path}").status_code in (403, 404)
    uploaded = client.post("/try/gradio_api/upload", files={"files": ("a.png", b"x" * 100)})
    assert client.get(f"/try/gradio_api/file={uploaded.json()[0]}").content == b"x" * 100
    too_large = client.post("/try/gradio_api/upload", files={"files": ("a.png", bytes(21_000_000))})
    assert too_large.status_code == 413


def test_what_the_page_calls_is_no_public_interface(client: TestClient) -> None:
    info = client.get("/try/gradio_api/info").json()
    assert (info["named_endpoints"], info["unnamed_endpoints"]) == ({}, {})


def join(client: TestClient, position: int, session: str) -> int:
    body = {"data": [None, 0, "what?"], "fn_index": position, "session_hash": session}
    return client.post("/try/gradio_api/queue/join", json=body).status_code


def test_when_many_wait_others_are_told_to_come_back(client: TestClient, monkeypatch) -> None:
    """One question is at work and 16 wait; the next is refused, and the page says so."""
    dependencies = client.get("/try/config").json()["dependencies"]
    asking = next(d["id"] for d in dependencies if any(t[1] == "submit" for t in d["targets"]))
    gate = threading.Event()
    monkeypatch.setattr(TryPage, "_image", lambda *_: gate.wait(60))
    try:
        statuses = [join(client, asking, f"s{i}") for i in range(24)]
    finally:
        gate.set()
    assert statuses[:17] == [200] * 17
    assert statuses[-1] == 503
