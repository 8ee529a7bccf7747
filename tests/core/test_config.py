"""Settings: merging with the profile, and every problem in one message."""

import shutil
from pathlib import Path

import pytest
import yaml

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.yaml_files import fill_nulls
from tests.support import ROOT


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A copy of the repository's settings, in which a test may break things."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(workspace, changes):
    path = workspace / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = params
        for part in sections:
            section = section[part]
        section[name] = value
    path.write_text(yaml.safe_dump(params))


@pytest.mark.parametrize("profile", ["sample", "abo"])
def test_committed_settings_are_valid(workspace, profile):
    edit(workspace, {"profile": profile})
    assert load_config().profile == profile


def test_abo_profile_is_the_study(workspace):
    edit(workspace, {"profile": "abo"})
    config = load_config()
    lora = config.lora
    assert (lora.r, lora.alpha, lora.dropout, lora.targets) == (16, 16, 0.05, ("query", "value"))
    assert (lora.lr, lora.batch_size, lora.epochs, lora.schedule) == (5e-5, 8, 3, "linear")
    assert (config.curate.cap, config.split.test_size, config.seed) == (5000, 0.2, 42)


@pytest.mark.parametrize("name", ["clip", "vilt"])
def test_a_model_that_doesnt_generate_isnt_trained(workspace, name):
    edit(workspace, {"lora.model": name})
    with pytest.raises(UserError) as told:
        load_config()
    assert (
        f"lora.model: found '{name}'; {name} picks from given answers and doesn't generate them; "
        "allowed: blip, blip2, llava"
    ) in str(told.value)


def test_targets_are_the_familys_unless_they_are_named(workspace):
    edit(workspace, {"lora.model": "llava"})
    assert load_config().lora.targets == ("q_proj", "v_proj")
    edit(workspace, {"lora.targets": ["o_proj"]})
    assert load_config().lora.targets == ("o_proj",)
    edit(workspace, {"lora.model": "lava"})
    with pytest.raises(UserError, match=r"lora\.model: found 'lava'; allowed: blip, blip2, llava"):
        load_config()


def test_null_means_the_profiles_value_and_a_number_wins(workspace):
    default = yaml.safe_load((workspace / "conf/profiles/sample.yaml").read_text())["defaults"]
    assert load_config().lora.epochs == default["lora"]["epochs"]
    edit(workspace, {"lora.epochs": 1})
    assert load_config().lora.epochs == 1


def test_exponent_without_a_point_is_a_number(workspace):
    # PyYAML reads 2e-05 as a string; `dvc exp run -S lora.lr=0.00002` writes it so.
    path = workspace / "params.yaml"
    text = path.read_text()
    assert "  lr: null" in text
    path.write_text(text.replace("  lr: null", "  lr: 2e-05"))
    assert load_config().lora.lr == 2e-5


def test_every_problem_in_one_message(workspace):
    edit(
        workspace,
        {
            "lora.r": 0,
            "lora.rank": 8,
            "lora.alfa": 3,
            "baselines.fraction": 1.5,
            "seed": "many",
            "generate.prompt": "conf/prompts/missing.txt",
        },
    )
    with pytest.raises(UserError) as caught:
        load_config()
    message = str(caught.value)
    for part in ("lora.r: found 0", "lora.rank: unknown", "did you mean alpha?", "fraction", "1.5",
                 "seed: found 'many'"):  # fmt: skip
        assert part in message
    assert message.startswith("5 problem(s)")


def test_a_misspelt_setting_is_one_problem(workspace):
    path = workspace / "params.yaml"
    path.write_text(path.read_text().replace("  alpha: ", "  alfa: "))
    with pytest.raises(UserError) as caught:
        load_config()
    assert str(caught.value).splitlines()[1:] == [
        "  lora.alfa: unknown setting; did you mean alpha?"
    ]


def test_missing_file_is_named(workspace):
    edit(workspace, {"generate.prompt": "conf/prompts/missing.txt"})
    with pytest.raises(UserError, match=r"generate\.prompt: no file at conf/prompts/missing\.txt"):
        load_config()


def test_null_without_a_default_says_where_to_set_it(workspace):
    edit(workspace, {"lora.r": None})
    with pytest.raises(UserError, match=r"lora\.r: no value; set it in params\.yaml"):
        load_config()


def test_unknown_profile_lists_what_there_is(workspace):
    edit(workspace, {"profile": "smaple"})
    with pytest.raises(UserError, match="'smaple' is unknown; known: abo, sample"):
        load_config()


def test_a_key_has_one_home(workspace):
    path = workspace / "conf/profiles/sample.yaml"
    path.write_text(path.read_text() + "\nseed: 1\n")
    with pytest.raises(UserError, match="seed: set in both"):
        load_config()


def test_broken_yaml_and_wrong_folder(workspace, tmp_path):
    (workspace / "params.yaml").write_text("a: [1\n")
    with pytest.raises(UserError, match="isn't valid YAML"):
        load_config()
    with pytest.raises(UserError, match="Run from the repository's root"):
        load_config(tmp_path / "nowhere" / "params.yaml")


@pytest.mark.parametrize("name", ["params.yaml", "conf/profiles/sample.yaml"])
def test_settings_in_another_encoding_are_one_message(workspace, name):
    (workspace / name).write_bytes("profile: sample  # très".encode("latin-1"))
    with pytest.raises(UserError, match=rf"{name} isn't UTF-8 text \(.* at byte 21\)\. Save it in"):
        load_config()


def test_file_annotator_needs_a_file(workspace):
    edit(workspace, {"generate.annotator": "file"})
    with pytest.raises(UserError, match=r"generate\.file names no table"):
        load_config()


@pytest.mark.parametrize(
    "file", ["data/train.csv", "./data/../data/vqa.csv", "linked/test.csv", "reports/scores/x.csv"]
)
def test_what_the_pipeline_writes_is_no_table_of_ones_own(workspace, file):
    for name in ("data", "reports/scores"):
        (workspace / name).mkdir(parents=True)
    (workspace / "linked").symlink_to("data", target_is_directory=True)
    (workspace / file).write_text("image_path,question,answer\n")
    edit(workspace, {"generate.annotator": "file", "generate.file": file})
    with pytest.raises(
        UserError, match=rf"generate\.file: found .*{Path(file).name}; the pipeline"
    ):
        load_config()
    (workspace / "data/train-copy.csv").write_text("image_path,question,answer\n")
    edit(workspace, {"generate.file": "data/train-copy.csv"})
    load_config()


def test_the_samples_checkpoints_are_no_advice_for_an_annotator(workspace):
    """They have no room for the prompt; a model of one's own in the same profile has."""
    edit(workspace, {"generate.annotator": "local", "generate.model": "blip"})
    with pytest.raises(
        UserError, match=r"there is none, add one under models; the sample's own are"
    ):
        load_config()
    path = workspace / "conf/profiles/sample.yaml"
    profile = yaml.safe_load(path.read_text())
    profile["models"]["mine"] = {"family": "chat", "path": "models/mine"}
    path.write_text(yaml.safe_dump(profile))
    with pytest.raises(UserError, match=r"family: chat or llava\): mine; the sample's own are too"):
        load_config()
    edit(workspace, {"generate.model": "mine"})
    load_config()


def test_fill_nulls_at_any_depth():
    assert fill_nulls({"a": None, "b": {"c": None, "d": 0}}, {"a": 1, "b": {"c": 2, "d": 3}}) == {
        "a": 1,
        "b": {"c": 2, "d": 0},
    }


def test_batch_sizes_have_a_section_of_their_own(workspace) -> None:
    """DVC takes `models` for what answers depend on, and `batch_sizes` for nothing."""
    profile = Path("conf/profiles/sample.yaml")
    settings = yaml.safe_load(profile.read_text())
    settings["batch_sizes"] = {"llava": 3, "bartscore": 5}
    profile.write_text(yaml.safe_dump(settings))
    config = load_config()
    assert (config.models.llava.batch_size, config.models.vilt.batch_size) == (3, 64)
    assert config.scorers.bartscore.batch_size == 5
    settings["batch_sizes"] = {"lava": 3, "vilt": 0}
    settings["models"]["blip"]["batch_size"] = 8
    profile.write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError) as told:
        load_config()
    for problem in (
        "batch_sizes.lava: neither a model nor a scorer; known: blip,",
        "blip.batch_size: batch sizes have a section of their own; set batch_sizes.blip",
        "models.vilt.batch_size: found 0",
    ):
        assert problem in str(told.value)


def test_sections_of_the_profile_in_params(workspace):
    """One line each, which names where they belong; no talk of unknown settings."""
    edit(workspace, {"batch_sizes": {"vilt": 16}, "models": {"vilt": {"quantize": "8bit"}}})
    with pytest.raises(UserError) as error:
        load_config()
    head, *problems = str(error.value).splitlines()
    assert head.startswith(
        "2 problem(s) in the settings (params.yaml and conf/profiles/sample.yaml"
    )
    home = "found in params.yaml; it belongs in conf/profiles/sample.yaml"
    assert [p.strip() for p in problems] == [f"batch_sizes: {home}", f"models: {home}"]


@pytest.mark.parametrize("wrong", ["cuda:0", "cpu", "atuo"])
def test_a_device_map_is_a_way_of_spreading(workspace, wrong):
    path = workspace / "conf/profiles/sample.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["models"]["vilt"]["device_map"] = wrong
    path.write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError, match=rf"device_map: found '{wrong}'; input should be 'auto'"):
        load_config()


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("base_url", "http://user:hunter22@host/v1", "the address has a login"),
        ("base_url", "https://hunter22@host:80", "the address has a login"),
        ("base_url", "ftp://user:hunter22@host", "the address has a login"),
        ("base_url", "user:hunter22@host/v1", "the address has a login"),
        ("key_variable", "sk-hunter22", "the name of a variable of the environment"),
        ("key_variable", "first,hunter22", "the name of a variable of the environment"),
    ],
)
def test_secrets_in_settings_are_refused_and_not_repeated(workspace, setting, value, allowed):
    edit(workspace, {f"generate.{setting}": value})
    with pytest.raises(UserError, match=rf"generate\.{setting}: .*{allowed}") as caught:
        load_config()
    assert "hunter22" not in str(caught.value)
    assert "1 problem(s)" in str(caught.value)


@pytest.mark.parametrize(
    "value", ["localhost:8000/v1", "ftp://host", "http://", "http:///v1", "http://local host:80/v1"]
)
def test_an_address_that_isnt_one(workspace, value):
    edit(workspace, {"generate.base_url": value})
    with pytest.raises(UserError, match=r"generate\.base_url: found '.*; it should be an address"):
        load_config()


def test_a_budget_that_can_stop_nothing_is_refused(workspace):
    free = {"generate.budget_usd": 1, "generate.price_input": 0, "generate.price_output": 0}
    edit(workspace, {**free, "generate.annotator": "openai"})
    with pytest.raises(UserError, match="generate: budget_usd needs price_input and price_output"):
        load_config()
    edit(workspace, {"generate.annotator": "offline"})  # spends nothing in any case
    assert load_config().generate.budget_usd == 1
    edit(workspace, {"generate.annotator": "openai", "generate.price_output": 0.4})
    assert load_config().generate.budget_usd == 1


def test_an_endpoints_settings_have_the_bounds_of_every_services(workspace):
    path = workspace / "conf/profiles/sample.yaml"
    profile = yaml.safe_load(path.read_text())
    hosted = {"family": "endpoint", "protocol": "openai", "model": "m"}
    profile["models"]["hosted"] = hosted
    path.write_text(yaml.safe_dump(profile))
    assert load_config().models.hosted.endpoint.temperature == 0
    profile["models"]["hosted"] = hosted | {"concurrency": 101, "base_url": "localhost"}
    path.write_text(yaml.safe_dump(profile))
    with pytest.raises(UserError, match=r"2 problem\(s\)") as caught:
        load_config()
    assert "models.hosted.concurrency: found 101" in str(caught.value)
    assert "models.hosted.base_url: found 'localhost'" in str(caught.value)


def hosted_model(workspace, **settings):
    """A model behind an API in the profile."""
    path = workspace / "conf/profiles/sample.yaml"
    profile = yaml.safe_load(path.read_text())
    hosted = {"family": "endpoint", "protocol": "openai", "model": "m"}
    profile["models"]["hosted"] = hosted | settings
    path.write_text(yaml.safe_dump(profile))


def test_a_model_behind_an_api_is_refused_for_its_own_reason(workspace):
    hosted_model(workspace)
    edit(workspace, {"lora.model": "hosted"})
    with pytest.raises(UserError, match="'hosted'; it is behind an API, so that its weights"):
        load_config()
    generate = {"generate.annotator": "local", "generate.model": "hosted"}
    edit(workspace, {"lora.model": "blip", **generate})
    with pytest.raises(UserError, match="'hosted'; it is behind an API: set annotator to its"):
        load_config()


def test_the_known_settings_are_those_that_users_write(workspace):
    hosted_model(workspace, zzz=1)
    with pytest.raises(UserError, match=r"models\.hosted\.zzz: unknown setting; known: ") as caught:
        load_config()
    known = str(caught.value).partition("known: ")[2].split(", ")
    assert "protocol" in known
    assert "service" not in known


def test_batch_jobs_where_there_are_none(workspace):
    edit(workspace, {"generate.annotator": "gemini-legacy", "generate.batch": True})
    with pytest.raises(UserError, match="annotator: gemini-legacy has no batch jobs; set it to f"):
        load_config()
    edit(workspace, {"generate.annotator": "gemini"})
    assert load_config().generate.batch
