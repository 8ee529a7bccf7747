"""A local annotator whose model is loaded by two workers, one of which is killed."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from abo_vqa.remote.journal import AnnotationJournal, read_journal
from abo_vqa.stages.generate import run
from tests.annotate.test_local import journal, local, prepare, tables, writers

__all__ = ["writers"]
ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def of_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    yield
    ray.shutdown()


def test_workers_write_the_same_pairs(here: Path, writers: Path, monkeypatch) -> None:
    prepare(here, writers, size=2)
    config = local(here)
    run(config)
    expected, entries = tables(here), read_journal(journal(config)).entries
    shutil.rmtree(here / ".cache")
    extend, batches = AnnotationJournal.extend, []

    def killing(self, entries) -> None:
        batches.append(len(entries))
        if len(batches) == 2:
            every = psutil.process_iter(["cmdline"])
            worker = next(p for p in every if "ray::Worker" in str(p.info["cmdline"]))
            os.kill(worker.pid, signal.SIGKILL)
        extend(self, entries)

    monkeypatch.setattr(AnnotationJournal, "extend", killing)
    compute = config.compute.model_copy(update={"engine": "ray", "workers": 2})
    run(config.model_copy(update={"compute": compute}))
    assert tables(here) == expected
    again = read_journal(journal(config)).entries
    assert [(e.image_path, e.candidates) for e in again] == [
        (e.image_path, e.candidates) for e in entries
    ]
