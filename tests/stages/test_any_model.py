"""A model is an entry in the profile: the commands then know it, whatever its kind."""

import pytest
import yaml
from PIL import Image

from abo_vqa.cli import main
from abo_vqa.core.tables import read_table
from tests.support import workspaces
from tests.support.vlms import VLM_SAVERS


@pytest.mark.parametrize("kind", ["qwen3_vl", "paligemma"])
def test_an_entry_in_the_profile_is_all_that_a_model_needs(
    tmp_path, monkeypatch, capsys, kind: str
) -> None:
    """Also with an image that its processor refuses, or that doesn't decode."""
    root = workspaces.workspace(tmp_path / "work", images=4)
    monkeypatch.chdir(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    family, save = VLM_SAVERS[kind]
    save(root / "models" / kind)
    Image.new("RGB", (900, 1)).save(root / "data/raw/sample/images/small/00/00000000.jpg")
    profile = root / "conf/profiles/sample.yaml"
    settings = yaml.safe_load(profile.read_text())
    entry = {"family": family, "path": f"models/{kind}", "prompt": "{question} in one word"}
    settings["models"]["my_model-1"] = entry
    profile.write_text(yaml.safe_dump(settings))

    assert main(["baseline", "--model", "my_model-1"]) == 0
    table = read_table("reports/baselines/my_model-1/predictions.csv")
    vqa = read_table("data/vqa.csv").rename_axis("row_id").reset_index()
    paths = vqa.set_index("row_id")["image_path"].loc[table["row_id"].astype(int)]
    failed = sorted({path for path, e in zip(paths, table["error"], strict=True) if e})
    broken = ["00/00000000.jpg"] if kind == "qwen3_vl" else []
    assert failed == [*broken, "00/00000003.jpg"]
    assert (table["prediction"] != "").any()

    image = root / "data/raw/sample/images/small/00/00000001.jpg"
    capsys.readouterr()
    ask = ["ask", "--model", "my_model-1", "--image", str(image), "--question", "is it red?"]
    assert main(ask) == 0
    assert capsys.readouterr().out.strip()
