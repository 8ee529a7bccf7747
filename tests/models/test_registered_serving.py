"""`mlflow models serve` with the registered model, as a process that is asked over HTTP."""

import base64
import os
import subprocess
import sys
import time

import pytest
import requests

from tests.models.test_registered import NAME, trained  # noqa: F401
from tests.support import ROOT
from tests.support.servers.ports import free_port
from tests.support.serving import ServerProcess

pytestmark = pytest.mark.slow


@pytest.fixture
def served(trained):  # noqa: F811
    root = trained[0]
    port = free_port()
    folder = root / "pictures"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(trained[3][0])
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
        "PYTHONPATH": str(ROOT / "src"),
        "ABO_VQA_IMAGE_FOLDER": str(folder),
    }
    words = ["models", "serve", "-m", f"models:/{NAME}@champion-sample", "--port", str(port)]
    log = (root / "served.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words, "--env-manager", "local"],
        cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            assert process.poll() is None, (root / "served.log").read_text()
            try:
                if requests.get(f"{url}/ping", timeout=5).status_code == 200:
                    break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait(60)
        log.close()


def test_it_answers_over_http_as_the_pipeline(trained, served):  # noqa: F811
    _, rows, expected, contents, _ = trained
    images = [base64.b64encode(data).decode() for data in contents]
    images[1] = f"data:image/jpeg;base64,{images[1]}"
    records = [
        {"image": image, "question": question}
        for image, question in zip(images, rows["question"], strict=True)
    ]
    bad = ["/etc/passwd", "http://127.0.0.1/", "../mlflow.db", "a.jpg"]
    records += [{"image": image, "question": rows["question"].iloc[0]} for image in bad]
    body = {"dataframe_records": records}
    reply = requests.post(f"{served}/invocations", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    answers = reply.json()["predictions"]
    assert [answer["answer"] for answer in answers] == [*expected, None, None, None, expected[0]]
    assert all(answer["error"] for answer in answers[len(expected) : -1])
    wrong = requests.post(
        f"{served}/invocations", json={"inputs": {"image": ["a.jpg"]}}, timeout=60
    )
    assert wrong.status_code == 400
    assert "question" in wrong.text


def test_abo_vqa_serves_a_registered_version_by_its_alias(trained):  # noqa: F811
    root, rows, expected, contents, _ = trained
    with ServerProcess(root, "--model", f"models:/{NAME}@champion-sample") as server:
        for data, question, answer in zip(contents, rows["question"], expected, strict=True):
            reply = server.ask(data, question).json()
            assert reply["answers"][0]["answer"] == answer
            assert reply["model"] == {"name": NAME, "version": "1"}
    with pytest.raises(AssertionError, match="can't get models:/nobody@champion from MLflow"):
        ServerProcess(root, "--model", "models:/nobody@champion")
