"""What happens to a server when something is killed, broken or too slow."""

import concurrent.futures
import json
import signal
import socket
import threading
import time

import psutil
import pytest
import requests

from tests.serving.test_server import ADMIN, QUESTION, alive, problem, reload, wait_until
from tests.support.serving import ServerProcess, image_bytes, served_project, set_serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return served_project(tmp_path_factory.mktemp("chaos"), capacity=8, timeout_s=30)


def start(project, **environment):
    return ServerProcess(project, "--adapter", "models/adapter", **environment)


def workers(server):
    """The processes with a model, and the one with the queues."""
    children = psutil.Process(server.process.pid).children()
    spawned = [p for p in children if "spawn_main" in " ".join(p.cmdline())]
    return spawned, [p for p in children if "abo_vqa" in " ".join(p.cmdline())]


def test_a_killed_worker_is_started_again(project):
    with start(project) as server:
        (worker,), _ = workers(server)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asking = [
                pool.submit(server.ask, image_bytes((500, 500)), *[QUESTION] * 8) for _ in range(8)
            ]
            wait_until(lambda: server.metric("in_flight") > 2)
            worker.kill()
            statuses = {future.result().status_code for future in asking}
        # Those it was answering; the others waited in the queue for the next one.
        assert 503 in statuses
        assert statuses <= {200, 503, 504}
        server.wait_for("worker 0 died .signal 9.; starting it again")
        wait_until(lambda: server.get("/ready").status_code == 200, 120)
        assert server.ask(image_bytes(), QUESTION).status_code == 200
        assert server.get("/health").status_code == 200


def test_nothing_is_left_of_a_killed_server(project):
    server = start(project)
    server.process.kill()
    server.process.wait()
    wait_until(lambda: not alive(server.process.pid), 30)


def test_without_its_queues_the_server_ends(project):
    server = start(project)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        (worker,), (queues,) = workers(server)
        worker.suspend()
        asking = [pool.submit(server.ask, image_bytes(), QUESTION) for _ in range(4)]
        wait_until(lambda: server.metric("in_flight") == 4)
        queues.kill()
        assert server.process.wait(60) == 1
        assert {future.result().status_code for future in asking} == {503}
    text = server.log.read_text()
    assert "the process with the queues died: start the server again" in text
    assert "Traceback" not in text
    wait_until(lambda: not alive(server.process.pid), 30)


def test_a_slow_answer_is_cut_off_and_frees_its_slot(project):
    set_serving(project, timeout_s=2)
    try:
        with start(project) as server:
            (worker,), _ = workers(server)
            worker.suspend()
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                asking = [pool.submit(server.ask, image_bytes(), QUESTION) for _ in range(8)]
                for future in asking:
                    problem(future.result(), 504, "timeout")
            assert server.metric("in_flight") == 0
            worker.resume()
            wait_until(lambda: server.ask(image_bytes(), QUESTION).status_code == 200)
            # Nobody waited for those eight any more: no batch was made of them.
            assert server.metric("batch_requests_sum") <= 2
    finally:
        set_serving(project, timeout_s=30)


def test_a_model_that_cant_be_loaded_ends_the_server_with_the_reason(project):
    weights = project / "models/blip/model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:1000])
    try:
        server = ServerProcess(project, wait=False)
        assert server.process.wait(120) == 2
    finally:
        weights.write_bytes(kept)
    text = server.log.read_text()
    assert "abo-vqa serve: " in text
    assert "models/blip" in text
    assert "Traceback" not in text
    wait_until(lambda: not alive(server.process.pid))


def test_keys(project):
    keys = "first-key-0123456789,second-key-0123456789"
    with start(project, ABO_VQA_API_KEYS=keys) as server:
        detail = problem(server.ask(image_bytes(), QUESTION), 401, "unauthorized")
        assert "a key is needed" in detail
        for header in ("Bearer wrong", "Basic first-key-0123456789", "Bearer ", "Bearer é"):
            headers = {"Authorization": header.encode()}
            problem(server.ask(image_bytes(), QUESTION, headers=headers), 401, "unauthorized")
        for key in keys.split(","):
            for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}):
                assert server.ask(image_bytes(), QUESTION, headers=headers).status_code == 200
        assert server.get("/health").status_code == server.get("/ready").status_code == 200
        problem(requests.post(f"{server.url}/admin/reload"), 404, "not-found")
        assert "first-key" not in server.log.read_text()


def test_a_short_key_is_refused_without_repeating_it(project):
    with pytest.raises(AssertionError, match="fewer than 16 characters") as caught:
        ServerProcess(project, wait=False, ABO_VQA_API_KEYS="hunter2")
    assert "hunter2" not in str(caught.value)


def test_draining_it_isnt_ready_but_answers_what_it_accepted(project):
    set_serving(project, drain_s=3)
    try:
        with start(project) as server:
            server.signal(signal.SIGTERM)
            wait_until(lambda: server.get("/ready").status_code == 503)
            assert "stopping" in server.get("/ready").json()["type"]
            refused = server.ask(image_bytes(), QUESTION)
            problem(refused, 503, "stopping")
            assert refused.headers["connection"] == "close"
            assert server.process.wait(60) == 0
    finally:
        set_serving(project, drain_s=0)


def test_clients_that_behave_badly_for_a_while_cost_no_memory_and_no_answer(project):
    """Half of them leave, send nonsense or stall; the others get their answers."""
    with start(project, ABO_VQA_ADMIN_KEYS=ADMIN) as server:
        stop = threading.Event()

        def misbehave(number):
            body = json.dumps({"image": "x" * 1000, "questions": ["a"]}).encode()
            head = f"POST /v1/answers HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
            head += "Content-Type: application/json\r\n\r\n"
            kinds = [
                head.encode() + body,
                head.encode(),
                b"\x16\x03\x01\x02nonsense\r\n\r\n",
                b"GET",
            ]
            while not stop.is_set():
                with socket.create_connection(("127.0.0.1", server.port)) as sock:
                    sock.sendall(kinds[number % 4])
                    stop.wait(0.02)

        def total():
            main = psutil.Process(server.process.pid)
            return sum(p.memory_info().rss for p in [main, *main.children(recursive=True)])

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            bad = [pool.submit(misbehave, i) for i in range(4)]
            for _ in range(100):
                server.ask(image_bytes(), QUESTION)
            before, end = total(), time.monotonic() + 20
            while time.monotonic() < end:
                assert server.ask(image_bytes(), QUESTION).status_code in (200, 503)
            assert reload(server).status_code == 200
            stop.set()
            assert [future.result() for future in bad] == [None] * 4
        assert total() - before < 40e6
        wait_until(lambda: server.metric("in_flight") == 0)
        assert "Traceback" not in server.log.read_text()


def test_the_page_is_mounted_and_leaves_the_api_as_it_is(project):
    pytest.importorskip("abo_vqa.serving.page.mounting")
    with ServerProcess(project, "--page") as server:
        page = server.get("/try/")
        assert page.status_code == 200
        assert "text/html" in page.headers["content-type"]
        assert server.ask(image_bytes(), QUESTION).status_code == 200
        assert "/try" not in server.get("/openapi.json").text
        assert server.get("/health").headers["content-security-policy"].startswith("default-src")


def test_an_open_page_doesnt_keep_the_server(project):
    """A browser's stream ends with the page; a question that was accepted has its answer."""
    pytest.importorskip("abo_vqa.serving.page.mounting")
    clients = concurrent.futures.ThreadPoolExecutor()
    with ServerProcess(project, "--page") as server, clients as pool:
        heartbeat = f"{server.url}/try/gradio_api/heartbeat/an-open-page"
        with requests.get(heartbeat, stream=True, timeout=60) as stream:
            assert stream.status_code == 200
            (worker,), _ = workers(server)
            worker.suspend()
            asking = pool.submit(server.ask, image_bytes(), QUESTION)
            wait_until(lambda: server.metric("in_flight") == 1)
            start = time.monotonic()
            server.signal(signal.SIGTERM)
            time.sleep(5)  # longer than the page's connections are left
            assert server.process.poll() is None
            worker.resume()
            assert server.process.wait(60) == 0
            assert time.monotonic() - start < 20
        assert asking.result().status_code == 200
    assert "Traceback" not in server.log.read_text()
