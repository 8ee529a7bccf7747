"""What every test gets: one thread, no model hub, no tracking outside its own folder."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# DVC's log keeps the stream it is imported under: a test's own is closed when that test ends.
import dvc.logger  # noqa: F401
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.support.pretend_gpu import Machine

os.environ.update(
    OMP_NUM_THREADS="1",
    # Two threads that spin while they wait, beside other tests' processes, take ten times as long.
    OMP_WAIT_POLICY="PASSIVE",
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    MPLBACKEND="Agg",
    DVC_NO_ANALYTICS="1",
    # Where `make setup` unpacked WordNet: processes in other folders needn't do it again.
    NLTK_DATA=str(Path(__file__).parents[1] / ".cache" / "abo-vqa" / "nltk_data"),
)
# Found examples are right or wrong; how long one takes on a busy machine says nothing.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
# What a test leaves is small, and imports leave millions of objects that stay: with the default of
# 700, an eighth of the tests' seconds goes into looking through them.
gc.set_threshold(50_000, 20, 100)
for name in ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def real() -> Path:
    """Real pictures, their catalogue entries and hashes, where there are any: see ABO_VQA_REAL."""
    beside = Path(__file__).parents[2] / "shared" / "real"
    folder = Path(os.environ.get("ABO_VQA_REAL", beside))
    if not folder.is_dir():
        pytest.skip("no real pictures here")
    return folder


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database without anything in it: its tables take a second to make."""
    import mlflow

    file = tmp_path_factory.mktemp("tables") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def gpu() -> Iterator["Machine"]:
    """A pretended GPU of 24 GiB and capability 8.0; for other ones, see `pretend_gpu.pretend`."""
    from tests.support.pretend_gpu import pretend

    with pretend() as machine:
        yield machine


@pytest.fixture(scope="module", autouse=True)
def frozen_modules() -> None:
    """Take what has been imported so far out of the garbage collector's rounds.

    Torch, transformers and DVC leave millions of objects, and code that runs out of memory on
    purpose collects again and again: a third of a second each time, more in a long test run.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Take back the threads that a stage asks for: the next tests' small models need one."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def untracked_environment() -> Iterator[None]:
    """Take back the `MLFLOW_…` variables a test leaves: MLflow itself writes some of them."""
    before = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    yield
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(before)


def pytest_sessionfinish() -> None:
    """What was frozen is taken down in the usual order: some libraries complain otherwise."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The whole pipeline first: it takes longest, so the other processes' tests fit beside it."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")
