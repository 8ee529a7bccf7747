"""The engine: the same results here and on Ray, none lost with a worker or a driver."""

import errno
import inspect
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from abo_vqa.commands.doctor import engine as doctor
from abo_vqa.commands.doctor.findings import Checkout
from abo_vqa.core.engine.local import LocalEngine
from abo_vqa.core.engine.opening import model_needs, open_engine
from abo_vqa.core.engine.work import Needs
from abo_vqa.core.errors import AboVqaError, RetryLaterError, UserError
from abo_vqa.core.log import get_logger
from abo_vqa.core.system_errors import NoSpaceError
from abo_vqa.data.image_files import ImageError
from tests.support import ROOT
from tests.support.settings import with_compute

ray = pytest.importorskip("ray")
from abo_vqa.core.engine.on_ray import dealer, worker  # noqa: E402
from abo_vqa.core.engine.on_ray.engine import RayEngine  # noqa: E402

SQUARES = {number: number * number for number in range(40)}


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    """Two workers on this machine, for all tests of the module."""
    os.environ.pop("RAY_ADDRESS", None)
    engine = RayEngine(2, threads=1)
    yield engine
    engine.close()


def squares(batches):
    """Work: what the tests deal; the host's log of who computed what is in the results."""
    for number in batches:
        time.sleep(0.01)
        yield number * number


def make_squares():
    return squares


def test_here_and_there_results_are_the_same(engine: RayEngine) -> None:
    numbers = list(SQUARES)
    assert dict(LocalEngine().run(make_squares, numbers)) == SQUARES
    assert dict(engine.run(make_squares, numbers)) == SQUARES
    in_order = list(engine.run(make_squares, numbers, in_order=True))
    assert in_order == list(SQUARES.items())
    assert list(engine.map(str, [3, 1, 2])) == list(LocalEngine().map(str, [3, 1, 2]))


def test_nothing_to_do_starts_nothing(engine: RayEngine) -> None:
    assert list(engine.run(partial(pytest.fail, "made"), [])) == []
    assert list(LocalEngine().run(partial(pytest.fail, "made"), [])) == []


def test_work_here_is_closed_however_it_ends() -> None:
    closed = []

    class Closing:
        def __call__(self, batches):
            yield from batches

        def close(self) -> None:
            closed.append(True)

    results = LocalEngine().run(Closing, [1, 2])
    next(results)
    results.close()
    assert closed == [True]


# --- deaths ------------------------------------------------------------------------------------


def dying(folder: Path, fatal: int, times: int):
    """Work whose worker kills itself (-9) at a batch, some times; each batch leaves a mark."""

    def work(batches):
        for number in batches:
            mark = folder / f"{number}-{len(list(folder.glob(f'{number}-*')))}"
            mark.touch()
            if number == fatal and len(list(folder.glob(f"{number}-*"))) <= times:
                os.kill(os.getpid(), signal.SIGKILL)
            yield number * number

    return work


@pytest.mark.parametrize("in_order", [False, True])
def test_a_dead_workers_batches_are_dealt_again(
    engine: RayEngine, tmp_path: Path, in_order: bool, capsys
) -> None:
    make = partial(dying, tmp_path, 7, 1)
    results = list(engine.run(make, list(SQUARES), in_order=in_order))
    assert Counter(results) == Counter(SQUARES.items())  # each once
    assert not in_order or results == list(SQUARES.items())
    computed = Counter(int(mark.name.partition("-")[0]) for mark in tmp_path.iterdir())
    assert computed[7] == 2
    # What it had returned isn't computed again; of the rest, results may have been on their way.
    assert sum(computed.values()) <= len(SQUARES) + 1 + worker.AHEAD
    assert "has died: its batches go to another one" in capsys.readouterr().err


def test_a_batch_that_kills_every_worker_ends_the_run(engine: RayEngine, tmp_path: Path) -> None:
    make = partial(dying, tmp_path, 3, 99)
    with pytest.raises(RetryLaterError, match="4 workers died of the same batch, the last on"):
        list(engine.run(make, list(SQUARES)))
    assert len(list(tmp_path.glob("3-*"))) == dealer.ATTEMPTS


# --- what workers have to say -------------------------------------------------------------------


def mistaken():
    raise UserError("no such model.")


def faulty():
    def work(batches):
        yield from (1 // batch for batch in batches)

    return work


def test_errors_come_as_they_are(engine: RayEngine) -> None:
    with pytest.raises(UserError, match=r"^no such model\.$"):
        list(engine.run(mistaken, [1]))
    with pytest.raises(ZeroDivisionError) as fault:
        list(engine.run(faulty, [0]))
    assert "in work" not in str(fault.value)
    assert "1 // batch" in "".join(fault.value.__notes__)  # where it was


def test_every_error_of_ours_survives_the_journey() -> None:
    def kinds(root: type[AboVqaError]) -> Iterator[type[AboVqaError]]:
        for kind in root.__subclasses__():
            yield from (kind, *kinds(kind))

    for kind in {ImageError, *kinds(AboVqaError)}:
        parameters = [p for p in inspect.signature(kind.__init__).parameters.values() if p.kind < 2]
        error = kind(*["one", "two", "three"][: max(1, len(parameters) - 1)])
        error.exit_code = 99
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (kind, str(error), vars(error))


def test_an_error_of_the_system_keeps_its_number() -> None:
    error = NoSpaceError(errno.ENOSPC, "No space left on device", "answers.jsonl")
    error.needed = 7
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.errno, copy.filename, copy.needed) == (errno.ENOSPC, "answers.jsonl", 7)


def warning_work():
    logger = get_logger("abo_vqa.tests")

    def work(batches):
        for batch in batches:
            logger.warning("this model is slow")
            yield batch

    return work


def test_a_warning_of_all_workers_is_passed_on_once(engine: RayEngine, capsys) -> None:
    list(engine.run(warning_work, list(range(20))))
    err = capsys.readouterr().err
    assert err.count("this model is slow (worker on") == 1


def where_am_i(_batch):
    return str(Path.cwd()), os.environ["OMP_NUM_THREADS"], sys.modules.get("torch") is None


def test_workers_work_where_the_driver_does(engine: RayEngine, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(engine.map(where_am_i, [0, 1])) == {(str(tmp_path), "1", True)}


def test_other_sources_are_refused(engine: RayEngine, monkeypatch) -> None:
    monkeypatch.setattr(dealer, "sources_digest", lambda: "older")
    with pytest.raises(UserError, match=r"its copy of src/abo_vqa differs\. Every machine"):
        list(engine.map(str, [1, 2]))


def test_compiled_sources_dont_count(tmp_path, monkeypatch) -> None:
    package = tmp_path / "abo_vqa"
    (package / "core/engine/on_ray").mkdir(parents=True)
    source = package / "core/engine/on_ray/worker.py"
    source.write_text("")
    monkeypatch.setattr(worker, "__file__", str(source))
    before = worker.sources_digest()
    (package / "core/__pycache__").mkdir()
    (package / "core/__pycache__/worker.cpython-311.pyc").write_bytes(b"compiled")
    assert worker.sources_digest() == before
    source.write_text("pass")
    assert worker.sources_digest() != before


def test_mixed_hardware_is_named_once(engine: RayEngine, monkeypatch, capsys) -> None:
    workers = engine.workers(make_squares)
    monkeypatch.setattr(workers, "_deal", lambda member: None)
    for host, processor in [("a", "T4"), ("b", "T4"), ("c", "H100"), ("d", "H100"), ("a", "T4")]:
        workers._welcome(dealer._Member(None, None), host, processor, "")
    [line] = capsys.readouterr().err.splitlines()
    assert "different processors (T4 on a, H100 on c): results may differ by rounding" in line


# --- settings -----------------------------------------------------------------------------------


def test_the_setting_chooses(monkeypatch, engine: RayEngine) -> None:
    with open_engine(with_compute(engine="local")) as local:
        assert isinstance(local, LocalEngine)
    with open_engine(with_compute(engine="ray", workers=1)) as joined:
        assert list(joined.map(str, [1])) == ["1"]
    assert ray.is_initialized()  # the caller's
    monkeypatch.setitem(sys.modules, "abo_vqa.core.engine.on_ray.engine", None)
    with pytest.raises(ModuleNotFoundError), open_engine(with_compute(engine="ray")):
        pass


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "abo_vqa.core.engine.on_ray.engine")
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(UserError, match=r"make setup EXTRAS=scale`, or set compute\.engine"),
        open_engine(with_compute(engine="ray")),
    ):
        pass


def test_what_a_model_needs() -> None:
    assert model_needs(with_compute(device="cpu")) == Needs(cpus=2, gpu=False)
    assert model_needs(with_compute(device="auto")).gpu is None
    assert model_needs(with_compute(device="cuda")).gpu is True
    assert model_needs(with_compute(device="cuda:1", engine="local")).gpu is True
    with pytest.raises(UserError, match="one GPU of one machine"):
        model_needs(with_compute(device="cuda:1", engine="ray"))


def test_the_doctor_starts_workers(engine: RayEngine, monkeypatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    case = Checkout(ROOT, with_compute(engine="ray", device="cpu"), "", (), True)
    [finding] = doctor.engine(case)
    assert finding.state == "ok"
    assert re.fullmatch(
        r"Ray at this machine has room for [1-9]\d* worker\(s\) with 2 core\(s\) each",
        finding.found,
    )
    many = with_compute(engine="ray", device="cpu", workers=500)
    [finding] = doctor.engine(replace(case, config=many))
    assert (finding.state, finding.found[-26:]) == ("warning", "and compute.workers is 500")
    assert list(doctor.engine(replace(case, config=with_compute(engine="local")))) == []
    [finding] = doctor.engine(replace(case, config=with_compute(engine="ray", device="cuda:1")))
    assert (finding.state, finding.advice) == (
        "problem", "Set compute.device to auto, cuda or cpu.",
    )  # fmt: skip


OUTSIDE = """
import sys
from abo_vqa import cli
from abo_vqa.core.processes import sigterm_as_exit, stop_with_parent
from abo_vqa.core.engine.on_ray.engine import RayEngine

def slow(batches):
    import time
    for batch in batches:
        time.sleep(60)
        yield batch

def work():
    with sigterm_as_exit(), stop_with_parent():
        engine = RayEngine(2, threads=1)
        print("connected", flush=True)
        list(engine.run(lambda: slow, [1, 2]))
    return 0

sys.exit(cli.run_with_safe_output("baseline", work))
"""


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://head:10001", "for Ray's client outside a cluster"),
        ("127.0.0.1:1", "can't reach the Ray cluster at RAY_ADDRESS=127.0.0.1:1"),
    ],
)
def test_an_address_that_doesnt_work_is_one_message(address: str, said: str) -> None:
    environment = {
        **os.environ,
        "RAY_ADDRESS": address,
        "RAY_gcs_rpc_server_reconnect_timeout_s": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "interrupted; run it again to continue"),
        (signal.SIGTERM, 143, "stopped by SIGTERM; run it again to continue."),
        pytest.param(signal.SIGKILL, -9, "", marks=pytest.mark.slow),
    ],
)
def test_no_process_outlives_the_driver(number, code: int, said: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    driver = subprocess.Popen(
        [sys.executable, "-c", OUTSIDE], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert driver.stdout.readline() == "connected\n"
    time.sleep(2)
    others = psutil.Process(driver.pid).children(recursive=True)
    assert others
    os.killpg(driver.pid, number) if number == signal.SIGINT else driver.send_signal(number)
    stderr = driver.communicate(timeout=60)[1]
    assert driver.returncode == code, stderr
    assert "Traceback" not in stderr
    assert said in stderr
    assert psutil.wait_procs(others, timeout=120)[1] == []
