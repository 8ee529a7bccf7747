"""Which baselines are asked again after a change: real DVC on the real dvc.yaml, pretended data."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.models.registry import local_annotator
from abo_vqa.stages import inputs, verifiers
from tests.support import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NAMES = ["blip", "blip2", "clip-fixed", "clip-train", "clip-all", "llava", "vilt", "blind"]
PROFILE = Path("conf/profiles/sample.yaml")
TABLE = "image_path,question,answer\n00/1.jpg,what?,red\n00/2.jpg,is it?,{answer}\n"


def dvc(*words: str) -> str:
    """Run DVC here; its output."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DVC_")}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words], env=environment, text=True, check=False,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def stale() -> set[str]:
    """The stages that DVC would run again."""
    return set(json.loads(dvc("status", "--json")))


def outputs(stage: dict) -> list[str]:
    listed = [*stage.get("outs", []), *stage.get("metrics", [])]
    return [out if isinstance(out, str) else next(iter(out)) for out in listed]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tables: Path) -> Path:
    """A project every stage of which has run, as far as DVC can tell."""
    root = tmp_path_factory.mktemp("finished") / "project"
    root.mkdir()
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    for name in ("conf", "src"):
        shutil.copytree(
            ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    shutil.copy(tables, root / "mlflow.db")
    names = [name for name in NAMES if name != "blind"]
    files = ["data/raw/sample/archive", *(f"models/sample/{n}/weights" for n in names)]
    for name, stage in STAGES.items():
        found = outputs(stage)
        if name == "baseline":
            found = [f"reports/baselines/{model}" for model in NAMES]
        files += [out if Path(out).suffix else f"{out}/file" for out in found]
    files.append("data/embeddings/blip/meta.json")
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(f"{file}\n")
    (root / "data/vectors").mkdir()
    shutil.copy(ROOT / "data/vectors/.gitignore", root / "data/vectors")
    (root / "models/sample/clip").mkdir(exist_ok=True)
    (root / "models/sample/clip/weights").write_text("clip\n")
    for name in ("vqa", "train", "test"):
        (root / f"data/{name}.csv").write_text(TABLE.format(answer="blue"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        inputs.run(load_config())
        verifiers.run(load_config())
        subprocess.run(["git", "init", "--quiet"], check=True)
        dvc("init", "--quiet")
        dvc("commit", "--quiet", "--force")
        assert stale() == set()
    return root


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "project"
    shutil.copytree(finished, copy, symlinks=True)
    monkeypatch.chdir(copy)
    return copy


def edit(file: Path, change) -> None:
    settings = yaml.safe_load(file.read_text())
    change(settings)
    file.write_text(yaml.safe_dump(settings, sort_keys=False))


def asked_again() -> set[str]:
    """The baselines that are stale once what they depend on is written anew."""
    dvc("repro", "--quiet", "--single-item", "inputs")
    return {name.partition("@")[2] for name in stale() if name.startswith("baseline@")}


def test_every_baseline_has_its_inputs(here: Path) -> None:
    assert sorted(p.stem for p in Path("data/inputs").iterdir()) == sorted(NAMES)


def test_batch_sizes_and_the_device_ask_nobody_again(here: Path) -> None:
    edit(PROFILE, lambda p: p["batch_sizes"].update(llava=8, blip=16, bertscore=4))
    edit(Path("params.yaml"), lambda p: p["embed"].update(batch_size=4))
    edit(Path("params.yaml"), lambda p: p["compute"].update(device="cpu"))
    config = load_config()
    assert (config.models.llava.batch_size, config.scorers.bertscore.batch_size) == (8, 4)
    assert stale() == set()


def test_a_prompt_asks_its_own_model_again(here: Path) -> None:
    """All variants of it, which share their weights."""
    edit(PROFILE, lambda p: p["models"]["llava"].update(prompt="<image> {question}"))
    assert stale() == {"inputs", "report", "verifiers"}
    assert asked_again() == {"llava"}
    edit(PROFILE, lambda p: p["models"]["clip"].update(prompt="{question} {candidate}"))
    assert asked_again() == {"llava", "clip-fixed", "clip-train", "clip-all"}


def verified_again() -> bool:
    """Whether the verifiers' answers are stale once what they depend on is written anew."""
    dvc("repro", "--quiet", "--single-item", "verifiers")
    return "opinions" in stale()


def test_what_is_no_verifiers_asks_no_verifier_again(here: Path) -> None:
    """Neither another model's prompt nor its weights; the verifier's own weights do."""
    assert load_config().verify.models == ("blip", "blind")
    edit(PROFILE, lambda p: p["models"]["llava"].update(prompt="<image> {question}"))
    Path("models/sample/vilt/weights").write_text("others\n")
    assert "verifiers" in stale()
    assert not verified_again()
    edit(Path("params.yaml"), lambda p: p["verify"].update(min_agreement=0.5))
    assert "verify" in stale()
    assert "opinions" not in stale()
    Path("models/sample/blip/weights").write_text("others\n")
    assert verified_again()


def test_a_local_annotator_that_has_changed_is_told(here: Path) -> None:
    """DVC doesn't watch it: a paid one would start again wherever its journal isn't."""
    edit(Path("params.yaml"), lambda p: p["generate"].update(annotator="local", model="llava"))
    config = load_config()
    Path("data/generate.json").write_text(json.dumps({"model": local_annotator(config)}))
    assert "warning" not in inputs.run(config).message
    edit(PROFILE, lambda p: p["models"]["llava"].update(prompt="<image> {question}"))
    assert "warning" not in inputs.run(load_config()).message
    (Path("models/sample/llava/weights")).write_text("others\n")
    assert "written by another generate.model than llava is now" in inputs.run(config).message


def test_another_split_concerns_what_learns_from_it(here: Path) -> None:
    """And a new vision output BLIP alone, new weights their own model."""
    Path("data/train.csv").write_text(TABLE.format(answer="green"))
    Path("data/embeddings/blip/meta.json").write_text("other digest\n")
    Path("models/sample/vilt/weights").write_text("others\n")
    assert asked_again() == {"clip-train", "blind", "blip", "vilt"}


def test_a_baseline_that_isnt_there_is_told_before_any_is_asked(here: Path) -> None:
    edit(Path("params.yaml"), lambda p: p["baselines"].update(models=["blip", "llava-7b", "blup"]))
    with pytest.raises(UserError, match=r"no model is called 'llava-7b'. Did you mean llava"):
        inputs.run(load_config())
    edit(Path("params.yaml"), lambda p: p["baselines"].update(models=["smolvlm"]))
    with pytest.raises(UserError, match="defines no weights for smolvlm"):
        inputs.run(load_config())


def params_of(stage: dict) -> list[str]:
    found: list[str] = []
    for entry in stage.get("params", []):
        found += [entry] if isinstance(entry, str) else [k for v in entry.values() for k in v]
    return found


def test_no_batch_size_and_no_device_is_a_parameter_of_dvcs() -> None:
    """But fine-tuning's, which changes what is learnt."""
    whole = {"compute", "embed", "batch_sizes", "defaults.compute", "defaults.embed"}
    for name, stage in STAGES.items():
        for key in params_of(stage):
            assert key not in whole, (name, key)
            assert not key.endswith(("batch_size", "device")), (name, key)


def test_the_report_depends_on_every_other_setting() -> None:
    known = set(params_of(STAGES["report"]))
    for file in (ROOT / "params.yaml", ROOT / PROFILE):
        for key, value in yaml.safe_load(file.read_text()).items():
            below = {f"{key}.{name}" for name in value} if isinstance(value, dict) else set()
            machine = {"compute.device", "compute.engine", "compute.workers"}
            machine |= {"embed.batch_size", "embed.store", "batch_sizes", "serve"}
            assert key in known | machine or below - machine <= known, key


def test_the_page_leaves_out_what_no_result_depends_on(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from abo_vqa.reporting.provenance import provenance

    names = {name for name, _ in provenance(load_config())["settings"]}
    assert {"lora.batch_size", "models.llava.prompt", "compute.dtype"} <= names
    assert not {n for n in names if n.endswith("batch_size")} - {"lora.batch_size"}
    assert "compute.device" not in names
    assert "embed.store" not in names
