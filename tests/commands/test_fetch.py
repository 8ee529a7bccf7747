"""`abo-vqa fetch` (make abo): archives are pinned, versions and kills are noticed."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from abo_vqa.cli import main
from tests.support import ROOT
from tests.support.downloads import NEW, OLD, SHA, tar_of
from tests.support.servers.files import Fault, FileServer


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose profile names archives on the local server."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    profiles = tmp_path / "conf" / "profiles"
    profiles.mkdir(parents=True)
    with FileServer(OLD) as listings, FileServer(NEW) as images:
        (profiles / "abo.yaml").write_text(
            "data:\n  raw: data/raw/abo\n  licence: CC BY 4.0\n  attribution: Someone et al.\n"
            f"  listings: {{url: '{listings.url}'}}\n  images: {{url: '{images.url}'}}\n"
        )
        yield tmp_path, images


def test_the_command_pins_the_archives_and_the_disk_holds_them_once(project, capsys):
    from dvc.repo import Repo

    root, _ = project
    Repo.init(no_scm=True).close()
    (root / ".dvc" / "config").write_text(
        "[core]\n    no_scm = true\n[cache]\n    type = hardlink,copy\n"
    )
    for name in ("data.dvc", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    assert main(["fetch"]) == 0
    said = capsys.readouterr().out
    assert "CC BY 4.0" in said
    assert "Someone et al." in said
    images = root / "data" / "raw" / "abo" / "abo-images-small.tar"
    assert images.read_bytes() == NEW
    pinned = (root / "data.dvc").read_text()
    assert "nfiles: 2" in pinned
    assert pinned.startswith("# The real archives")
    cached = [p for p in (root / ".dvc" / "cache").rglob("*") if p.is_file()]
    assert images.stat().st_ino in {p.stat().st_ino for p in cached}
    lock = json.loads((root / "conf" / "profiles" / "abo.lock.json").read_text())
    assert {entry["sha256"] for entry in lock.values()} == {SHA, hashlib.sha256(NEW).hexdigest()}
    # The index of a tar and a download under way are no change of the data.
    images.with_name(images.name + ".index.npz").write_bytes(b"x")
    images.with_name(f".{images.name}.part").write_bytes(b"x")
    with Repo() as repo:
        assert repo.status(["data.dvc"]) == {}


def test_an_archive_edited_in_place_is_noticed(project):
    """With the repository's own setting of the cache, and whoever edits it."""
    from dvc.repo import Repo

    root, _ = project
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
    config = (ROOT / ".dvc" / "config").read_text()
    (root / ".dvc" / "config").write_text(config.replace("[core]\n", "[core]\n    no_scm = true\n"))
    for name in ("data.dvc", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    assert main(["fetch"]) == 0
    images = root / "data" / "raw" / "abo" / "abo-images-small.tar"
    with images.open("r+b") as file:
        file.write(b"edited")
    with Repo() as repo:
        assert repo.status(["data.dvc"])
        repo.checkout(["data.dvc"], force=True)
    assert images.read_bytes() == NEW


def test_a_new_version_is_refused_after_the_first_good_download(project, capsys):
    root, images = project
    assert main(["fetch"]) == 0
    assert main(["fetch"]) == 0  # all there: checked, not downloaded
    assert len(images.seen) == 1
    (root / "data" / "raw" / "abo" / "abo-images-small.tar").unlink()
    images.content = tar_of(4)
    assert main(["fetch"]) == 2
    assert "is recorded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ("nope", "--profile nope: unknown; there are: abo, empty."),
        ("empty", "conf/profiles/empty.yaml, data"),
    ],
)
def test_a_profile_without_archives(project, capsys, profile, text):
    (project[0] / "conf" / "profiles" / "empty.yaml").write_text("models: {}\n")
    assert main(["fetch", "--profile", profile]) == 2
    assert text in capsys.readouterr().err


def test_kill_9_in_the_middle_loses_nothing(project):
    root, images = project
    images.faults = [Fault(stall_after=90_000)]
    process = subprocess.Popen(
        [sys.executable, "-m", "abo_vqa", "fetch"], cwd=root, stderr=subprocess.DEVNULL
    )
    part = root / "data" / "raw" / "abo" / ".abo-images-small.tar.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == 90_000):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main(["fetch"]) == 0
    assert images.seen[-1]["Range"] == "bytes=90000-"
    assert (root / "data" / "raw" / "abo" / "abo-images-small.tar").read_bytes() == NEW
