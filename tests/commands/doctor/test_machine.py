"""Versions, memory, disk; the settings that need a card, and cards that can't be used."""

import shutil

import pytest
import torch
import yaml

from abo_vqa.commands.doctor import files, gpu, machine, models, training
from abo_vqa.core import devices
from abo_vqa.core.paths import embeddings_of
from tests.support.pretend_gpu import pretend


@pytest.fixture(autouse=True)
def afresh():
    devices._warn_once.cache_clear()


def test_versions_against_the_lock_for_this_python(look, checkout):
    here = machine.installed("torch").partition("+")[0]
    lock = f"torch=={here}\ntorch==0.1 ; python_version < '3'\n    # via x\n"
    (checkout / "requirements.lock").write_text(lock)
    assert look(machine.libraries)["libraries"].state == "ok"
    (checkout / "requirements.lock").write_text("torch==0.1 ; python_version > '3'\n")
    found = look(machine.libraries)["libraries"]
    assert found.state == "warning"
    assert "torch 0.1" in found.advice
    assert here in found.found


def test_a_package_that_is_missing(look, monkeypatch):
    monkeypatch.setattr("abo_vqa.core.interpreter.missing_packages", lambda: ["dvc"])
    found = look(machine.libraries)["packages"]
    assert found.state == "problem"
    assert found.found == "not installed: dvc"
    assert "make setup" in found.advice


def test_little_memory_is_said_before_the_kernel_ends_a_stage(look, monkeypatch):
    assert look(machine.memory)["memory"].state == "ok"
    monkeypatch.setattr(machine, "available_memory", lambda: 4e9)
    assert look(machine.memory)["memory"].state == "ok"
    found = look(machine.memory, profile="abo")["memory"]
    assert found.state == "warning"
    assert "6.0 GB" in found.advice


@pytest.mark.parametrize(("stored", "size"), [("float16", 13.1), ("float32", 26.2)])
def test_the_disk_that_the_real_archives_and_vision_outputs_take(look, monkeypatch, stored, size):
    monkeypatch.setattr(machine, "stored_once", lambda root: True)
    usage = shutil._ntuple_diskusage(10**12, 10**12 - 10**10, 10**10)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage)
    once = look(machine.disk, profile="abo", embed={"dtype": stored})["disk"]
    assert once.state == "problem"
    assert f"vision outputs {size} GB ({stored})" in once.found
    store = embeddings_of("blip") / "vectors.npy"
    store.parent.mkdir(parents=True)
    store.write_bytes(bytes(22_000_000))  # the sample's doesn't stand for the real one
    again = look(machine.disk, profile="abo", embed={"dtype": stored})["disk"]
    assert f"vision outputs {size} GB ({stored})" in again.found
    monkeypatch.setattr(machine, "stored_once", lambda root: False)
    twice = look(machine.disk, profile="abo")["disk"]
    assert "twice" in twice.found
    assert twice.numbers["needed_bytes"] > 1.9 * once.numbers["needed_bytes"]
    assert look(machine.disk)["disk"].state == "ok"


def test_shards_that_go_to_a_store_take_the_room_of_three(look, monkeypatch):
    monkeypatch.setattr(machine, "stored_once", lambda root: True)
    stored = {"dtype": "float32", "store": "s3://bucket/prefix"}
    found = look(machine.disk, profile="abo", embed=stored)["disk"]
    assert "vision outputs 12.9 GB (float32)" in found.found


def test_a_catalogue_of_ones_own_takes_the_room_of_its_own_images(look, checkout, monkeypatch):
    """Twelve unpacked images, though the profile was copied from the real one."""
    monkeypatch.setattr(machine, "stored_once", lambda root: True)
    profiles = checkout / "conf/profiles"
    copied = yaml.safe_load((profiles / "abo.yaml").read_text())
    copied["data"] |= {"raw": "data/raw/sample", "study": False}
    (profiles / "mine.yaml").write_text(yaml.safe_dump(copied))
    found = look(machine.disk, profile="mine")["disk"]
    assert "archives 0.0 GB" in found.found
    assert "of 12 images" in found.found
    assert found.numbers["needed_bytes"] == pytest.approx(0.5e9 + 12 * 577 * 768 * 2)


def test_whether_the_cache_shares_its_bytes_is_tried_and_leaves_nothing(look, checkout):
    before = sorted(checkout.rglob("*"))
    (checkout / ".dvc/config").write_text('[cache]\n    type = "copy"\n')
    assert not machine.stored_once(checkout)
    (checkout / ".dvc/config").write_text('[cache]\n    type = "hardlink,copy"\n')
    assert machine.stored_once(checkout)
    left = {p for p in sorted(checkout.rglob("*")) if "tmp" not in p.parts} - set(before)
    assert not left


# ---- the card


def test_no_card_is_fine_for_the_sample_and_slow_for_the_real_models(look):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert look(gpu.device)["device"].state == "ok"
    found = look(gpu.device, profile="abo")["device"]
    assert found.state == "warning"
    assert "days" in found.advice


def test_a_card_that_is_asked_for_and_isnt_there(look):
    with pretend(driver=False):
        found = look(gpu.device, compute={"device": "cuda"})["check"]
    assert found.state == "problem"
    assert "sees no GPU" in found.found


def test_a_wrong_device_is_described_once(look):
    assert "isn't a device" in look(gpu.device, compute={"device": "gpu0"})["check"].found
    checks = (gpu.dtype, lambda case: models.check("blip", case), training.check_step)
    for check in checks:
        found = look(check, compute={"device": "gpu0"})["check"]
        assert found.state == "warning"
        assert found.found == "not checked: no device"


@pytest.mark.parametrize(("profile", "state"), [("sample", "warning"), ("abo", "problem")])
def test_a_driver_that_torch_cant_use(look, broken_driver, profile, state):
    found = look(gpu.device, profile=profile)["device"]
    assert found.state == state
    assert "535.104.05" in found.found
    assert "TORCH_BACKEND" in found.advice
    assert "535.104.05" in look(gpu.driver)["driver"].found


def test_a_card_without_kernels(look):
    with pretend(capability=(6, 0)):
        found = look(gpu.device, profile="abo")["device"]
        assert "capability 6.0" in look(gpu.cards)["cuda:0"].found
    assert found.state == "problem"
    assert "capability 6.0" in found.found
    assert "TORCH_BACKEND" in found.advice


@pytest.mark.parametrize(
    ("capability", "chosen"), [((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_the_number_format_that_the_card_gets(look, capability, chosen):
    with pretend(capability=capability):
        found = look(gpu.dtype, profile="abo")["dtype"]
        assert look(gpu.device, profile="abo")["device"].found.startswith("cuda:0")
    assert found.found.startswith(f"{chosen}: blip")
    assert ("isn't used on this device" in found.found) == (chosen == "float16")


def test_a_card_that_another_process_fills(look):
    with pretend(budget=2**30, memory=24 * 2**30):
        found = look(gpu.cards)["cuda:0"]
    assert found.state == "warning"
    assert "nvidia-smi" in found.advice


# ---- files


def test_archives_missing_broken_and_changed(look, checkout):
    found = look(files.archives)
    assert found["archives"].state == "ok"
    assert "12 images" in found["archives"].found
    assert found["pinned"].state == "warning"  # nothing pins them
    raw = checkout / "data/raw/sample"
    listings = raw / "listings/metadata"
    listings.joinpath("listings_0.json.gz").rename(listings / "products.json.gz")
    found = look(files.archives)["check"]
    assert found.state == "problem"
    assert "no listings/metadata/listings_*.json.gz (there: products.json.gz)" in found.found
    assert "docs/data.md" in found.found
    shutil.rmtree(raw / "images")
    assert look(files.archives)["check"].state == "problem"
    shutil.rmtree(raw)
    found = look(files.archives)["archives"]
    assert found.state == "problem"
    assert "dvc pull data/raw/sample" in found.advice
    assert "make abo" in look(files.archives, profile="abo")["archives"].advice
    (checkout / "conf/profiles/mine.yaml").write_text(
        (checkout / "conf/profiles/sample.yaml").read_text().replace("raw/sample", "raw/mine")
    )
    advice = look(files.archives, profile="mine")["archives"].advice
    assert "data/raw/mine: docs/data.md" in advice


def test_archives_against_what_dvc_pinned(look, checkout):
    import dvc.repo

    with dvc.repo.Repo(str(checkout)) as repo:
        repo.add(["data/raw/sample"])
    found = look(files.archives)["pinned"]
    assert found.state == "ok"
    assert "data/raw/sample.dvc" in found.found
    (checkout / "data/raw/sample/images/small/00/00000000.jpg").unlink()
    found = look(files.archives)["pinned"]
    assert found.state == "warning"
    assert "modified" in found.found
    assert "dvc checkout" in found.advice
