"""A checkout's work saved elsewhere and restored into a new clone."""

import hashlib
import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
import yaml

from abo_vqa.core.errors import UserError
from abo_vqa.core.sessions.contents import MARKER
from abo_vqa.core.sessions.manifest import MANIFEST, PREVIOUS, read_manifest
from abo_vqa.core.sessions.objects import ObjectStore
from abo_vqa.core.sessions.restoring import restore_session
from abo_vqa.core.sessions.saving import save_session


def md5(data):
    return hashlib.md5(data).hexdigest()


class Clone:
    """A checkout with outputs, as DVC leaves them in its cache and its lock file."""

    def __init__(self, root):
        self.root = root
        self.cache = ObjectStore(root / ".dvc/cache")
        (root / ".cache/abo-vqa").mkdir(parents=True)
        (root / "dvc.yaml").write_text("stages: {}\n")

    def write(self, name, data):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(data)

    def read(self, name):
        return (self.root / name).read_bytes()

    def output(self, path, **files):
        """An output of a stage in DVC's cache: a file, or a folder of files."""
        outs = self.lock()["stages"]
        listed = []
        for name, data in files.items():
            self.cached(data, md5(data))
            listed.append({"md5": md5(data), "relpath": name})
        text = json.dumps(listed).encode()
        self.cached(text, f"{md5(text)}.dir")
        outs[path] = {"cmd": "x", "outs": [{"path": path, "md5": f"{md5(text)}.dir"}]}
        self.write("dvc.lock", yaml.safe_dump({"stages": outs}).encode())

    def cached(self, data, name):
        place = self.cache.path(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)

    def lock(self):
        file = self.root / "dvc.lock"
        return yaml.safe_load(file.read_text()) if file.is_file() else {"stages": {}}

    def save(self, folder, **options):
        return save_session(self.root, folder, self.cache, "c0ffee", **options)

    def restore(self, folder, **options):
        return restore_session(self.root, folder, self.cache, **options)


@pytest.fixture
def clones(tmp_path, monkeypatch):
    """clones("one"): a checkout of that name, which is the current one."""

    def make(name):
        root = tmp_path / name
        root.mkdir()
        monkeypatch.chdir(root)
        return Clone(root)

    return make


@pytest.fixture
def worked(clones):
    one = clones("one")
    one.write(".cache/abo-vqa/finetune/key/step-7.pt", b"checkpoint")
    one.write(".cache/abo-vqa/baseline-blip/key/answers-0.jsonl", b'[[1, "red"]]\n')
    one.output("models/adapter", weights=b"w", config=b"c")
    return one


def test_journals_checkpoints_and_outputs_come_back(worked, clones, tmp_path):
    worked.save(tmp_path / "saved")
    two = clones("two")
    assert two.restore(tmp_path / "saved").outputs == ("models/adapter",)
    for name in (
        ".cache/abo-vqa/finetune/key/step-7.pt",
        ".cache/abo-vqa/baseline-blip/key/answers-0.jsonl",
        "dvc.lock",
    ):
        assert two.read(name) == worked.read(name)
    assert all(two.cache.has(md5(data)) for data in (b"w", b"c"))
    assert two.restore(tmp_path / "saved") is None  # as new already


def test_what_is_quickly_had_again_stays_here(worked, clones, tmp_path):
    worked.output("data/embeddings/blip", vectors=b"large")
    for name in ("nltk_data/words", "embed/key/vectors.bin", "locks/a", "mlflow.lock",
                 "finetune/key/.half", "remote/url/version/members"):  # fmt: skip
        worked.write(f".cache/abo-vqa/{name}", b"x")
    small = worked.save(tmp_path / "saved")
    assert {name for name in small.files if "abo-vqa" in name} == {
        ".cache/abo-vqa/finetune/key/step-7.pt",
        ".cache/abo-vqa/baseline-blip/key/answers-0.jsonl",
    }
    assert "data/embeddings/blip" not in small.outputs
    assert not ObjectStore(tmp_path / "saved").has(md5(b"large"))
    assert "data/embeddings/blip" in worked.save(tmp_path / "saved", embeddings=True).outputs
    assert ObjectStore(tmp_path / "saved").has(md5(b"large"))


def test_outputs_that_dvc_does_not_cache_are_saved_as_files(worked, tmp_path):
    worked.write("reports/metrics.json", b"{}")
    stages = worked.lock()["stages"]
    stages["evaluate"] = {"outs": [{"path": "reports/metrics.json", "md5": md5(b"{}")}]}
    stages["gone"] = {"outs": [{"path": "reports/gone.json", "md5": md5(b"other")}]}
    worked.write("dvc.lock", yaml.safe_dump({"stages": stages}).encode())
    saved = worked.save(tmp_path / "saved")
    assert "reports/metrics.json" in saved.files
    assert "reports/gone.json" not in saved.files


def test_only_what_is_new_is_written(worked, tmp_path, monkeypatch):
    folder = tmp_path / "saved"
    worked.save(folder)
    before = {file: file.stat().st_ino for file in folder.rglob("*/??/*")}
    worked.write(".cache/abo-vqa/finetune/key/step-9.pt", b"another")
    read = []
    add = ObjectStore.add
    monkeypatch.setattr(
        ObjectStore, "add", lambda self, file, suffix="": read.append(file) or add(self, file)
    )
    worked.save(folder)
    assert [file.name for file in read] == ["step-9.pt"]
    after = {file: file.stat().st_ino for file in folder.rglob("*/??/*")}
    assert {file: after[file] for file in before} == before
    assert len(after) == len(before) + 1


def test_what_two_saves_ago_was_needed_is_removed(worked, tmp_path):
    folder = tmp_path / "saved"
    store = ObjectStore(folder)
    file = ".cache/abo-vqa/finetune/key/step-7.pt"
    for data in (b"first", b"second", b"third"):
        worked.write(file, data)
        worked.save(folder)
    assert [store.has(md5(data)) for data in (b"first", b"second", b"third")] == [False, True, True]


def test_a_database_is_saved_while_it_is_written(worked, clones, tmp_path):
    with closing(sqlite3.connect(worked.root / "mlflow.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE runs (name)")
        database.execute("INSERT INTO runs VALUES ('finetune')")
        database.commit()  # in the file beside it
        worked.save(tmp_path / "saved")
    two = clones("two")
    two.restore(tmp_path / "saved")
    with closing(sqlite3.connect(two.root / "mlflow.db")) as database:
        assert database.execute("SELECT name FROM runs").fetchall() == [("finetune",)]


@pytest.mark.parametrize("damage", ["missing", "other bytes"])
def test_a_damaged_save_gives_way_to_the_one_before(worked, clones, tmp_path, damage, capsys):
    folder = tmp_path / "saved"
    worked.save(folder)
    worked.write(".cache/abo-vqa/finetune/key/step-7.pt", b"newer")
    worked.save(folder)
    file = ObjectStore(folder).path(md5(b"newer"))
    if damage == "missing":
        file.unlink()
    else:
        file.chmod(0o644)
        file.write_bytes(b"n3wer")
    two = clones("two")
    assert two.restore(folder).number == 1
    assert two.read(".cache/abo-vqa/finetune/key/step-7.pt") == b"checkpoint"
    assert "the save before it is restored" in capsys.readouterr().err
    (folder / PREVIOUS).unlink()
    three = clones("three")
    with pytest.raises(UserError, match=r"can't be restored: .* Copy the folder again"):
        three.restore(folder)
    assert not (three.root / "dvc.lock").exists()  # nothing says that the rest is there


class KilledError(BaseException):
    """Stands for kill -9: no handler of the product's knows it."""


@pytest.mark.parametrize("at", range(1, 9))
def test_a_kill_at_any_point_leaves_a_save_that_can_be_restored(
    worked, clones, tmp_path, monkeypatch, at
):
    folder = tmp_path / "saved"
    worked.save(folder)
    worked.write(".cache/abo-vqa/finetune/key/step-7.pt", b"newer")
    worked.output("models/adapter", weights=b"w2", config=b"c2")
    calls = 0
    replace = Path.replace

    def killed(self, target):
        nonlocal calls
        calls += 1
        if calls == at:
            raise KilledError
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with suppress(KilledError):
            worked.save(folder)
    two = clones(f"two-{at}")
    restored = two.restore(folder)
    newer = restored.number == 2
    assert (two.read(".cache/abo-vqa/finetune/key/step-7.pt") == b"newer") == newer
    assert two.cache.has(md5(b"w2")) == newer
    assert worked.save(folder).number >= 2  # and the checkout itself goes on
    assert read_manifest(folder / MANIFEST).number >= 2


def test_work_of_another_checkout_is_not_replaced(worked, clones, tmp_path):
    worked.save(tmp_path / "saved")
    two = clones("two")
    two.write(".cache/abo-vqa/finetune/key/step-1.pt", b"mine")
    with pytest.raises(UserError, match=r"another checkout .* session restore"):
        two.save(tmp_path / "saved")
    with pytest.raises(UserError, match=r"work of its own \(finetune .*--force"):
        two.restore(tmp_path / "saved")
    two.restore(tmp_path / "saved", force=True)
    assert two.save(tmp_path / "saved").number == 2
    worked.write(".cache/abo-vqa/finetune/key/step-9.pt", b"late")
    with pytest.raises(UserError, match="which this one lacks"):  # the first goes on, unaware
        worked.save(tmp_path / "saved")


def test_what_a_new_checkout_fetched_is_no_work_of_its_own(worked, clones, tmp_path):
    """On a new machine archives are pinned, and their indexes built, before the work comes back."""
    worked.save(tmp_path / "saved")
    two = clones("two")
    two.write(".cache/abo-vqa/remote/url/version/index.npz", b"index")
    assert two.restore(tmp_path / "saved") is not None


def test_the_next_folder_continues_the_session(worked, clones, tmp_path):
    """Kaggle's: what the last session saved can only be read."""
    worked.save(tmp_path / "input")
    two = clones("two")
    two.restore(tmp_path / "input")
    two.save(tmp_path / "working")
    three = clones("three")
    assert three.restore(tmp_path / "working").number == 2
    assert three.restore(tmp_path / "input") is None  # older


def test_folders_that_are_no_session(worked, tmp_path):
    with pytest.raises(UserError, match=r"has no saved session"):
        worked.restore(tmp_path / "nothing")
    (tmp_path / "saved").mkdir()
    for content, reason in (("{}", "session: Field required"), ("[", "Invalid JSON")):
        (tmp_path / "saved" / MANIFEST).write_text(content)
        with pytest.raises(UserError, match=f"isn't the list of a saved session .*{reason}"):
            worked.restore(tmp_path / "saved")


@pytest.mark.parametrize("name", ["../outside", "/etc/outside"])
def test_paths_that_lead_out_of_the_checkout_are_refused(worked, clones, tmp_path, name):
    worked.save(tmp_path / "saved")
    file = tmp_path / "saved" / MANIFEST
    manifest = json.loads(file.read_text())
    manifest["files"][name] = manifest["files"].pop("dvc.lock")
    file.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="outside the checkout: refused"):
        clones("two").restore(tmp_path / "saved")


def test_a_checkout_without_any_work_can_be_saved(clones, tmp_path):
    one = clones("one")
    assert one.save(tmp_path / "saved").outputs == ()
    assert (one.root / MARKER).is_file()
