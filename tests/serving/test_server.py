"""The server as clients meet it: answers, limits, errors, keys, another model, stopping."""

import base64
import concurrent.futures
import contextlib
import io
import json
import os
import re
import signal
import socket
import struct
import time
import zlib

import psutil
import pytest
import requests
from PIL import Image

from abo_vqa.cli import main
from abo_vqa.core.json_files import read_json
from tests.support.adapters import adapter_for
from tests.support.serving import (
    ADMIN,
    TARGETS,
    ServerProcess,
    image_bytes,
    served_project,
)

QUESTION = "what color is it?"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return served_project(
        tmp_path_factory.mktemp("serving"),
        capacity=8, upload_timeout_s=2, max_body_mb=1, max_questions=4, max_question_chars=300,
        max_pixels=1_000_000, fetch_urls=True, fetch_networks=["127.0.0.2/32"], fetch_timeout_s=60,
        image_folder="data/raw",
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(project):
    with ServerProcess(project, "--adapter", "models/adapter", ABO_VQA_ADMIN_KEYS=ADMIN) as running:
        yield running


def files(project):
    return sorted((project / "data/raw/sample/images/small/00").glob("*.jpg"))[:3]


def problem(response, status, kind):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    content = response.json()
    assert content["type"] == f"urn:abo-vqa:problem:{kind}"
    assert content["status"] == status
    assert "Traceback" not in response.text
    return content["detail"]


def test_it_answers_as_the_command_does(server, project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    for file in files(project):
        answers = server.ask(file.read_bytes(), QUESTION, "is it red?").json()["answers"]
        for answer in answers:
            words = ["ask", "--image", str(file), "--question", answer["question"]]
            capsys.readouterr()
            assert main(words) == 0
            assert answer["answer"] == capsys.readouterr().out.strip()
            assert answer["error"] is None
            assert 0 < answer["confidence"] <= 1


def test_every_form_of_an_image_gives_the_same_answer(server, project):
    file = files(project)[0]
    data = file.read_bytes()
    expected = server.ask(data, QUESTION).json()
    name = file.relative_to(project / "data/raw").as_posix()
    url = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    for image in (name, url):
        assert server.ask(image, QUESTION).json()["answers"] == expected["answers"]
    form = {"image": ("a.jpg", data)}
    sent = requests.post(f"{server.url}/v1/answers", files=form, data={"question": [QUESTION]})
    assert sent.json()["answers"] == expected["answers"]


def test_a_question_that_cant_be_answered_fails_alone(server):
    response = server.ask(image_bytes(), QUESTION, "", "a b c d e f g " * 20)
    answers = response.json()["answers"]
    assert [bool(answer["answer"]) for answer in answers] == [True, False, False]
    assert answers[1]["error"] == "the question is empty"
    assert "too long" in answers[2]["error"]
    assert response.json()["model"]["name"] == "finetuned"


def bomb():
    """A PNG of a few bytes that claims 30,000 x 30,000 pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


BAD_IMAGES = {
    "cut off": (image_bytes()[:60], "cut off or damaged"),
    "bomb": (bomb(), "absurd dimensions"),
    "pixels": (image_bytes((1100, 1000)), "absurd dimensions, 1100 x 1000"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'>" + b" " * 99 + b"</svg>", "not a JPEG"),
    "text": (b"this is no image" * 9, "not a JPEG"),
    "zeros": (bytes(500), "not a JPEG"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_images_are_refused_with_a_reason(server, kind):
    data, reason = BAD_IMAGES[kind]
    assert reason in problem(server.ask(data, QUESTION, "is it red?"), 422, "image")


@pytest.mark.parametrize("mode", ["CMYK", "L", "RGBA", "1", "P"])
@pytest.mark.parametrize("size", [(40, 40), (1, 10_000)])
def test_odd_images_are_answered_or_refused_but_never_fail_the_server(server, mode, size):
    file = io.BytesIO()
    Image.new(mode, size).save(file, "JPEG" if mode == "CMYK" else "PNG")
    response = server.ask(file.getvalue(), QUESTION)
    if size == (40, 40):
        assert response.json()["answers"][0]["answer"]
    else:
        assert response.status_code in (200, 422), response.text


@pytest.mark.parametrize(
    ("body", "status", "kind", "reason"),
    [
        (b"{", 400, "json", "isn't JSON"),
        (b"\xff\xfe", 400, "json", "isn't JSON"),
        (b"[]", 422, "request", "an object"),
        (b"null", 422, "request", "an object"),
        (b'{"image": 1, "questions": ["a"]}', 422, "request", "valid string"),
        (b'{"image": "x", "questions": "a"}', 422, "request", "valid array"),
        (b'{"image": "x", "questions": []}', 422, "request", "at least 1 item"),
        (b'{"image": "x", "questions": [1, 2]}', 422, "request", "questions.0"),
        (b'{"image": "x", "query": ["a"]}', 422, "request", "questions: Field required"),
        (b'{"image": "", "questions": ["a"]}', 422, "request", "at least 1 character"),
        (b'{"image": "no base64!", "questions": ["a"]}', 422, "image", "isn't base64"),
        (b'{"image": "../../params.yaml", "questions": ["a"]}', 422, "image", "no image at"),
        (b'{"image": "/etc/passwd", "questions": ["a"]}', 422, "image", "no image at"),
        (b'{"image": "x", "questions": ["a","b","c","d","e"]}', 422, "too-many-questions", "5"),
        (b"[" * 100_000, 400, "json", "recursion"),
    ],
)
def test_wrong_bodies_get_one_clear_reason(server, body, status, kind, reason):
    headers = {"Content-Type": "application/json"}
    response = requests.post(f"{server.url}/v1/answers", data=body, headers=headers)
    assert reason in problem(response, status, kind)


def test_limits_of_a_request(server):
    detail = problem(server.ask(image_bytes(), "x" * 301), 422, "question-too-long")
    assert detail == "questions.0: 301 characters; at most 300 are allowed"
    wrong = requests.post(
        f"{server.url}/v1/answers", data=b"hello", headers={"Content-Type": "a/b"}
    )
    problem(wrong, 415, "media-type")
    problem(requests.get(f"{server.url}/v1/answers"), 405, "method-not-allowed")
    problem(requests.get(f"{server.url}/docs"), 404, "not-found")
    form = {"image": ("a.jpg", image_bytes())}
    problem(requests.post(f"{server.url}/v1/answers", files=form), 422, "request")


def raw(server, head, *parts, pause=0.0):
    """Send bytes, and return the status line of the reply, or b"" if the connection is closed."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        with contextlib.suppress(OSError):  # refused, perhaps before all of it is sent
            sock.sendall(head)
            for part in parts:
                time.sleep(pause)
                sock.sendall(part)
        try:
            return sock.makefile("rb").readline()
        except OSError:
            return b""


def post(length):
    return (
        "POST /v1/answers HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def test_a_huge_body_is_refused_before_it_is_read(server):
    assert b"413" in raw(server, post(2_000_000_000))
    chunked = post(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    assert b"413" in raw(server, chunked, piece, piece)


def test_slow_clients_are_cut_off(server):
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        body = pool.submit(raw, server, post(1000), *[b"x"] * 15, pause=0.1)
        head = pool.submit(raw, server, b"POST /v1/", *[b"x"] * 40, pause=0.1)
        assert b"408" in body.result()
        assert head.result() == b""
    assert time.monotonic() - start < 10


def test_a_client_that_leaves_frees_its_slot(server):
    """Here while its image is fetched from a host that never answers."""
    with socket.create_server(("127.0.0.2", 0)) as silent:
        url = f"http://127.0.0.2:{silent.getsockname()[1]}/a.jpg"
        body = json.dumps({"image": url, "questions": ["a"]}).encode()
        for _ in range(8):  # as many as there are slots
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                sock.sendall(post(len(body)) + body)
                wait_until(lambda: server.metric("in_flight") == 1)
            wait_until(lambda: server.metric("in_flight") == 0)
    assert server.ask(image_bytes(), QUESTION).status_code == 200


def wait_until(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/health",
        "http://2130706433:{port}/health",
        "http://[::ffff:127.0.0.1]:{port}/health",
        "http://localhost:{port}/health",
        "http://169.254.169.254/latest/meta-data",
        "HTTP://0x7f.1:{port}/health",
    ],
)
def test_addresses_inside_arent_called(server, url):
    response = server.ask(url.format(port=server.port), QUESTION)
    assert "isn't a public host" in problem(response, 422, "image")


def test_probes_metrics_and_description(server):
    assert server.get("/health").json() == {"status": "ok"}
    assert server.get("/ready").json() == {"status": "ready"}
    assert server.metric("requests_total") > 0
    assert server.metric("batch_requests_count") > 0
    assert server.metric("capacity") == 8
    document = server.get("/openapi.json").json()
    post = document["paths"]["/v1/answers"]["post"]
    body = post["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"image", "question", "questions"}
    assert body["examples"]
    assert set(post["responses"]) == set("200 400 401 408 413 415 422 500 503 504".split())
    text = json.dumps(document)
    for reference in set(re.findall(r'"#/components/schemas/(\w+)"', text)):
        assert reference in document["components"]["schemas"]
    headers = server.get("/health").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def reload(server, key=ADMIN):
    headers = {"Authorization": f"Bearer {key}"}
    return requests.post(f"{server.url}/admin/reload", headers=headers)


def test_the_model_is_exchanged_while_it_serves(server, project):
    before = server.get("/v1/model").json()["version"]
    assert reload(server).json()["changed"] is False
    problem(reload(server, "wrong-key"), 401, "unauthorized")
    adapter = project / "models/adapter/adapter_model.safetensors"
    good = adapter.read_bytes()
    adapter.write_bytes(good[: len(good) // 2])
    detail = problem(reload(server), 409, "reload-failed")
    assert "goes on serving" in detail
    assert server.ask(image_bytes(), QUESTION).json()["model"]["version"] == before
    adapter_for(project / "models/blip", project / "models/other", [*TARGETS, "key"])
    other = (project / "models/other/adapter_model.safetensors").read_bytes()
    config = project / "models/adapter/adapter_config.json"
    kept = config.read_text()
    settings = read_json(project / "models/other/adapter_config.json")
    settings["base_model_name_or_path"] = json.loads(kept)["base_model_name_or_path"]
    config.write_text(json.dumps(settings))
    adapter.write_bytes(other)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(server.ask, image_bytes(), QUESTION) for _ in range(40)]
        result = reload(server).json()
        assert result["changed"] is True
        assert all(done.result().status_code == 200 for done in asking)
    after = server.ask(image_bytes(), QUESTION).json()["model"]["version"]
    assert after == result["model"]["version"] != before
    config.write_text(kept)
    adapter.write_bytes(good)
    server.signal(signal.SIGHUP)
    server.wait_for(f"serving finetuned .{before}")
    assert server.metric("reloads_total") >= 4


def test_full_it_sheds_load_and_stopping_it_answers_what_it_accepted(server):
    """The last test: it ends the server."""
    before = server.metric("shed_total")
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        asking = [
            pool.submit(server.ask, image_bytes((300, 300)), *[QUESTION] * 4) for _ in range(120)
        ]
        done = [future.result() for future in asking]
    statuses = {response.status_code for response in done}
    assert statuses == {200, 503}
    refused = next(response for response in done if response.status_code == 503)
    assert int(refused.headers["retry-after"]) >= 1
    problem(refused, 503, "overloaded")
    assert server.metric("shed_total") - before == sum(r.status_code == 503 for r in done)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asking = [
            pool.submit(server.ask, image_bytes((300, 300)), *[QUESTION] * 4) for _ in range(8)
        ]
        while not server.metric("in_flight"):
            pass
        assert server.stop() == 0
        left = [future for future in asking if not future.exception()]
        assert all(future.result().status_code in (200, 503) for future in left)
        assert any(future.result().status_code == 200 for future in left)
    wait_until(lambda: not alive(server.process.pid))
    text = server.log.read_text()
    assert "stopping; " in text
    for unwanted in ("Traceback", ADMIN, "leaked"):  # of semaphores Python warns at the very end
        assert unwanted not in text


def alive(group):
    """Whether anything is left of a server's processes."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process)
    return left
