"""What the README says is what the repository does."""

import json
import re
import subprocess
import tarfile

import pytest

from abo_vqa.cli import COMMANDS, main
from abo_vqa.core.paths import EVALUATION
from tests.support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "docs/images/umbrella.jpg"


@pytest.fixture
def committed():
    """Skip where the workspace holds an experiment's results, not the committed ones."""
    command = ["git", "diff", "--quiet", "HEAD", "--", "reports/metrics.json"]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        pytest.skip("reports/metrics.json isn't the committed one")


@pytest.mark.usefixtures("committed")
def test_result_table_is_the_committed_metrics():
    metrics = json.loads((ROOT / "reports" / "metrics.json").read_text())
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+)% \| ([+−]?[\d.]+) \|", README, re.MULTILINE)
    assert len(rows) >= 8
    for model, accuracy, gain in rows:
        assert f"{metrics[model]['accuracy']:.1%}" == f"{accuracy}%", model
        expected = f"{100 * metrics[model]['gain_over_blind']:+.1f}".replace("+0.0", "0.0")
        assert expected == gain.replace("−", "-"), model


@pytest.mark.skipif(not (ROOT / EVALUATION).is_file(), reason="the pipeline hasn't been run")
@pytest.mark.usefixtures("committed")
def test_result_table_is_what_show_prints(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["show", "--markdown"]) == 0
    block = README.split("<!-- results -->")[1].split("<!-- /results -->")[0]
    results = block[block.index("\n|") :].strip()
    assert results == capsys.readouterr().out.strip(), "abo-vqa show --markdown prints it"


def test_commands_and_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets
    assert set(re.findall(r"`abo-vqa ([a-z]+)", README)) <= set(COMMANDS)


@pytest.mark.parametrize("page", [README, *(p.read_text() for p in (ROOT / "docs").glob("*.md"))])
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\((?!http|#)([^)#]+)", page)
    assert all((ROOT / link).exists() or (ROOT / "docs" / link).exists() for link in links), links


def test_make_help_explains_every_target():
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("setup", "repro", "test", "lint", "report", "ui", "abo", "bench", "clean"):
        assert re.search(rf"make {target} +\w", said.stdout), target


def test_images_that_examples_ask_about_are_in_the_repository():
    own = {"photo.jpg", "chair.webp", "…"}  # the reader's
    before = r"""(?:--image |image=@|base64 < |open\("|image, question = ")"""
    for page in (README, *(p.read_text(encoding="utf-8") for p in (ROOT / "docs").glob("*.md"))):
        named = set(re.findall(before + r"""([^\s"]+\.(?:jpg|webp|png))""", page))
        assert [name for name in named - own if not (ROOT / name).is_file()] == []
    assert README.count(f"--image {EXAMPLE.relative_to(ROOT)} ") == 1


def test_the_image_of_the_examples_is_one_that_the_sample_draws():
    archive = ROOT / "data/raw/sample/abo-images-small.tar"
    assert EXAMPLE.stat().st_size < 30_000
    if not archive.is_file():
        pytest.skip("the sample's data aren't here")
    name = "images/small/69/693e3729.jpg"
    assert f"`{name}`" in (ROOT / "docs/sample.md").read_text(encoding="utf-8")
    with tarfile.open(archive) as images:
        assert images.extractfile(name).read() == EXAMPLE.read_bytes()
