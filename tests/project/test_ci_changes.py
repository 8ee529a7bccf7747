"""What a pull request's run does: the pipeline on two commits, and the comment that follows."""

import re

import pytest
import yaml
from helpers import scratch
from helpers.scratch import run

from tests.support.pipelines import clone_to

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def set_params(folder, **changes) -> None:
    """Change settings, given as group__name, and commit."""
    file = folder / "params.yaml"
    params = yaml.safe_load(file.read_text())
    for name, value in changes.items():
        group, key = name.split("__")
        params[group][key] = value
    file.write_text(yaml.safe_dump(params, sort_keys=False))
    scratch.commit(folder)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Two commits: few models and one epoch, then another learning rate."""
    folder = clone_to(tmp_path_factory.mktemp("ci") / "abo-vqa")  # what `make setup` does there
    set_params(folder, baselines__models=["blip", "blind"], lora__epochs=1)
    set_params(folder, lora__lr=0.00001)
    return folder


def test_comment_on_a_change_that_harms(clone):
    printed = run(clone, "bash", ".ci/changes", "HEAD^1", "changes")
    stages = re.findall("Running stage '(.+)'", printed)
    assert stages.count("curate") == stages.count("baseline@blip") == 1  # the base's, shared
    assert stages[-4:] == ["finetune", "predict", "evaluate", "report"]
    page = (clone / "changes/comment.md").read_text()
    base = run(clone, "git", "rev-parse", "--short=7", "HEAD^1").strip()
    assert page.splitlines()[0] == f"## Results against {base}"
    assert "| `lora.lr` | `–` | `1e-05` |" in page
    row = re.search(r"\| `finetuned` \| (\S+)% \| (\S+)% .*\| (\d+) \| (\d+) \| \d+ \|", page)
    before, now, wrong, right = map(float, row.groups())
    assert now - before == pytest.approx(100 * (right - wrong) / 402, abs=0.1)
    assert before > now + 10
    assert "- finetuned is worse." in page
    assert "| now wrong | `" in page
    assert "Same answers: blip, blind-" in page
    assert re.search(r"\| reports/metrics\.json +\| finetuned\.accuracy ", page)
    assert page.count("<details>") == page.count("</details>") == 3
    assert len(page) < 60_000
    # The checkout has the results of the pull request, and no other clone's settings or branches.
    assert run(clone, "git", "status", "--porcelain", "params.yaml", "dvc.yaml", ".dvc") == ""
    assert run(clone, "git", "branch", "--format=%(refname:short)").split() == ["main"]
    assert "up to date" in run(clone, "dvc", "status")


def test_base_that_does_not_run_leaves_its_metrics(clone):
    """After the test above: the same pull request, on a base whose pipeline is broken."""
    run(clone, "git", "restore", ".")
    broken = (clone / "dvc.yaml").read_text()
    (clone / "dvc.yaml").write_text(broken.replace("src/abo_vqa curate", "src/abo_vqa curates"))
    scratch.commit(clone)
    (clone / "dvc.yaml").write_text(broken)
    scratch.commit(clone)
    run(clone, "bash", ".ci/changes", "HEAD^1", "changes")
    page = (clone / "changes/comment.md").read_text()
    assert "Only metrics are compared: the answers of " in page
