"""What a request may look like, what is wrong with it, and how refusals are counted."""

import asyncio
import base64

import pytest
import requests
from fastapi import FastAPI
from fastapi.testclient import TestClient

from abo_vqa.serving.guard import RequestGuard
from abo_vqa.serving.metrics import ServerMetrics
from abo_vqa.serving.problems import add_problem_handlers
from abo_vqa.serving.tally import RequestTally
from tests.serving.test_server import QUESTION, problem
from tests.support.serving import ServerProcess, image_bytes, served_project

IMAGE = base64.b64encode(image_bytes()).decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = served_project(
        tmp_path_factory.mktemp("refusals"), max_questions=3, max_question_chars=30
    )
    with ServerProcess(root, "--model", "blip", "--page") as running:
        yield running


def post(server, body=None, **options):
    return requests.post(f"{server.url}/v1/answers", json=body, timeout=60, **options)


def listed(response):
    return {error["field"]: error["message"] for error in response.json()["errors"]}


def test_the_log_says_where_the_page_is(server):
    assert server.wait_for(r"try the models in a browser: (\S+)\n") == f"{server.url}/try"
    assert server.get("/try/").status_code == 200


@pytest.mark.parametrize("name", ["question", "questions"])
def test_json_and_forms_take_both_names(server, name):
    asked = QUESTION if name == "question" else [QUESTION]
    replies = [
        post(server, {"image": IMAGE, name: asked}),
        post(server, files={"image": ("a.png", image_bytes())}, data={name: [QUESTION]}),
    ]
    for reply in replies:
        (answer,) = reply.json()["answers"]
        assert (answer["question"], answer["error"]) == (QUESTION, None)


def test_json_tells_all_problems_at_once(server):
    response = post(server, {"imgae": IMAGE, "questions": ["a", 1]})
    detail = problem(response, 422, "request")
    assert listed(response) == {
        "image": "Field required",
        "imgae": "there is no such field",
        "questions.1": "Input should be a valid string",
    }
    assert all(f"{field}: {message}" in detail for field, message in listed(response).items())
    assert "The fields are image and questions (a list), or question (a single one)." in detail
    both = post(server, {"image": IMAGE, "question": "a", "questions": ["b"]})
    problem(both, 422, "request")
    assert listed(both) == {"question": "send either question or questions"}


def test_a_form_tells_all_problems_at_once(server):
    response = post(server, files={"photo": ("a.png", image_bytes())}, data={"q": "a"})
    detail = problem(response, 422, "request")
    assert listed(response) == {
        "photo": "there is no such field",
        "q": "there is no such field",
        "image": "Field required",
        "question": "Field required",
    }
    assert "A form's fields are image (a file) and question (one or several)." in detail
    two = post(server, data={"image": [IMAGE, IMAGE]}, files={"question": ("a.txt", b"what?")})
    problem(two, 422, "request")
    assert listed(two) == {
        "image": "found 2 images; send one",
        "question": "found a file; send the text",
    }


def test_all_limits_of_questions_at_once(server):
    response = post(server, {"image": IMAGE, "questions": ["a" * 31, "b", "c" * 40, "d"]})
    problem(response, 422, "too-many-questions")
    assert listed(response) == {
        "questions": "found 4; at most 3 are allowed",
        "questions.0": "31 characters; at most 30 are allowed",
        "questions.2": "40 characters; at most 30 are allowed",
    }


def test_what_is_off_says_how_the_operator_allows_it(server):
    for url in ("http://example.com/a.jpg", " HTTPS://example.com/a.jpg"):
        detail = problem(post(server, {"image": url, "question": "a"}), 422, "image")
        assert detail.startswith("URLs aren't fetched by this server: send the image itself")
        assert "serve.fetch_urls in params.yaml" in detail
    response = requests.post(f"{server.url}/admin/reload", timeout=60)
    detail = problem(response, 404, "not-found")
    assert detail.startswith("reloading over HTTP is off: set ABO_VQA_ADMIN_KEYS")


def test_the_description_has_both_names(server):
    content = server.get("/openapi.json").json()["paths"]["/v1/answers"]["post"]["requestBody"]
    schema = content["content"]["application/json"]["schema"]
    assert schema["required"] == ["image"]
    assert schema["oneOf"] == [{"required": ["questions"]}, {"required": ["question"]}]
    form = content["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"image", "question", "questions"}


def test_refusals_are_answers_when_the_server_stops(server):
    """The last test of this server: it ends it."""
    before = {
        status: sum(
            float(line.split()[-1])
            for line in server.get("/metrics").text.splitlines()
            if line.startswith("abo_vqa_requests_total{")
            and f'path="/v1/answers",status="{status}"' in line
        )
        for status in (200, 422)
    }
    assert server.ask(image_bytes(), QUESTION).status_code == 200
    for image in ("http://example.com/a.jpg", base64.b64encode(b"no image" * 9).decode()):
        assert server.ask(image, QUESTION).status_code == 422
    assert post(server, {"image": IMAGE}).status_code == 422
    assert server.stop() == 0
    answered, refused = before[200] + 1, before[422] + 3
    assert (
        f"stopped; {answered + refused:.0f} requests: {answered:.0f} answered, "
        f"{refused:.0f} refused\n"
    ) in server.log.read_text()


def test_a_tally():
    tally = RequestTally()
    assert str(tally) == "no requests"
    tally.count(422, "image")
    assert str(tally) == "1 request: 0 answered, 1 refused"
    for status, kind in (
        *((200, ""), (200, ""), (503, "overloaded"), (503, "stopping"), (401, "unauthorized")),
        *((503, "worker-died"), (504, "timeout"), (500, ""), (499, "client-left")),
    ):
        tally.count(status, kind)
    assert str(tally) == ("10 requests: 2 answered, 4 refused, 3 failed, 1 given up by the client")


def test_what_nobody_foresaw_is_counted_by_kind_and_has_all_headers():
    metrics = ServerMetrics(lambda: 0, 1, "/v1/answers")
    app = FastAPI()
    add_problem_handlers(app)
    app.add_middleware(
        RequestGuard, paths=["/v1/answers"], foreign=(), max_body=10, upload_timeout=1,
        observe=metrics.observe_response,
    )  # fmt: skip

    @app.get("/v1/answers")
    async def fail() -> None:
        await asyncio.sleep(0)
        raise RuntimeError("a secret")

    response = TestClient(app, raise_server_exceptions=False).get("/v1/answers")
    assert "secret" not in problem(response, 500, "internal")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "x-problem-kind" not in response.headers
    assert b'abo_vqa_errors_total{kind="internal"} 1.0' in metrics.text()
    assert str(metrics.tally) == "1 request: 0 answered, 0 refused, 1 failed"
