"""Checkpoints in the hub's layout, loaded as the `abo` profile names them.

Small weights under the stored names of the real ones, with the real repositories' settings and
kinds of files (`benchmarks/helpers/hub`), found in the hub's cache by id and revision.
"""

import json
import math
from dataclasses import replace

import open_clip
import pytest
import torch
import transformers
from helpers.hub.catalogue import REPOSITORIES, named, write_all
from helpers.hub.clip import SMALL as SMALL_CLIP
from helpers.hub.layout import write
from helpers.hub.tensors import Noise
from PIL import Image
from transformers import AutoConfig

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.yaml_files import read_yaml
from abo_vqa.evaluation.bartscore import BartScore
from abo_vqa.evaluation.bertscore import BertScore
from abo_vqa.models.adapters import Adapter
from abo_vqa.models.decoding import end_tokens_of, greedy
from abo_vqa.models.registry import load_model
from abo_vqa.training import lora
from abo_vqa.training.families.blip import BlipFamily
from tests.support.workspaces import pictures

FAMILIES = ("blip", "blip2", "clip", "llava", "vilt")
QUESTIONS = ("what color is it?", "how many drawers does it have?")


@pytest.fixture(scope="module")
def config(request, tmp_path_factory):
    """The `abo` profile, as it is."""
    root = request.config.rootpath
    folder = tmp_path_factory.mktemp("abo")
    (folder / "conf").symlink_to(root / "conf")
    params = (root / "params.yaml").read_text().replace("profile: sample", "profile: abo")
    (folder / "params.yaml").write_text(params)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return load_config()


@pytest.fixture(scope="module")
def profile(request):
    return named(read_yaml(request.config.rootpath / "conf/profiles/abo.yaml"))


@pytest.fixture(scope="module")
def home(profile, tmp_path_factory):
    """HF_HOME with a stand-in for every checkpoint of the profile."""
    folder = tmp_path_factory.mktemp("hub")
    write_all(folder, profile.values(), real=False)
    return folder


@pytest.fixture
def cache(monkeypatch):
    """Make a folder HF_HOME (the library reads the variable only once); CLIP's is small."""
    known = open_clip.factory._MODEL_CONFIGS
    monkeypatch.setitem(known, "ViT-B-32-quickgelu", SMALL_CLIP)
    return lambda home: monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", home / "hub")


def load(name, config):
    if name == "clip":
        return load_model("clip-fixed", config, candidates=["red", "blue", "dark wood"])
    return load_model(name, config)


def marks(tensors):
    """What tells tensors apart whatever they are called: shapes and first values."""
    return {(tuple(t.shape), tuple(t.flatten()[:8].tolist())) for t in tensors}


def written(repository):
    noise = Noise()
    return {
        tensor.name: marks([torch.from_numpy(noise.array(tensor, repository.dtype)).float()])
        for tensor in repository.tensors
        if tensor.fill != "places"
    }


def test_every_checkpoint_of_the_profile_has_a_stand_in(profile):
    assert set(profile) == {*FAMILIES, "bertscore", "bartscore"}


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_arrive_whole_and_answer(name, config, profile, home, cache):
    cache(home)
    model = load(name, config)
    held = marks(p.float() for p in model.model.state_dict().values())
    stored = written(REPOSITORIES[profile[name][0]](False))
    assert [key for key, mark in stored.items() if not mark <= held] == []
    seen = pictures(2)
    answers = model.answer(
        [seen[0], seen[1], seen[0], seen[1]], [q for q in QUESTIONS for _ in "ab"]
    )
    assert all(answer.text and not answer.error for answer in answers)
    assert all(0 < answer.confidence <= 1 for answer in answers)
    assert len({answer.confidence for answer in answers}) == 4  # picture and question both matter


def test_scorers_load_without_the_head_and_the_pooler(config, profile, home, cache):
    cache(home)
    for scorer, name in ((BertScore, "bertscore"), (BartScore, "bartscore")):
        settings = getattr(config.scorers, name)
        loaded = scorer(settings)
        held = marks(p for p in loaded.model.state_dict().values())
        stored = written(REPOSITORIES[profile[name][0]](False))
        left = {key for key, mark in stored.items() if not mark <= held}
        assert {key.split(".")[0] for key in left} <= {"lm_head", "roberta"}
        above = [key for key in left if key.startswith("roberta.")]
        assert all(int(key.split(".")[3]) >= settings.layer for key in above)
        scores = loaded.score([("red", "dark red"), ("", "red")])
        assert all(math.isfinite(value) for value in torch.tensor(list(scores.values())).flatten())


@pytest.mark.parametrize(
    ("name", "tower"),
    [
        ("blip", "vision_model."),
        ("blip2", "vision_model."),
        ("clip", "visual."),
        ("llava", "vision_tower."),
        ("vilt", "vilt.embeddings.patch_embeddings."),
        ("bertscore", "roberta.encoder."),
        ("bartscore", "model.encoder."),
    ],
)
def test_a_renamed_part_is_refused(name, tower, config, profile, cache, tmp_path):
    path, revision = profile[name]
    right = REPOSITORIES[path](False)
    tensors = [t._replace(name=t.name.replace(tower, "renamed.", 1)) for t in right.tensors]
    assert tensors != right.tensors
    write(tmp_path, path, revision, replace(right, tensors=tensors))
    cache(tmp_path)
    with pytest.raises(UserError, match=path) as refusal:
        if name in FAMILIES:
            load(name, config)
        else:
            scorer = {"bertscore": BertScore, "bartscore": BartScore}[name]
            scorer(getattr(config.scorers, name))
    assert "lacks" in str(refusal.value) or "issing" in str(refusal.value)


def test_blip2_reads_the_picture_then_the_start_token(config, home, cache):
    cache(home)
    model = load("blip2", config)
    layout = model.preprocess([Image.new("RGB", (64, 48))])[0].layout
    prompt = model.prompts.tokenize(QUESTIONS[0], layout)
    assert prompt[:33] == [50_265] * 32 + [2]
    words = model.processor.tokenizer.convert_ids_to_tokens(prompt[33:36])
    assert words == ["Question", ":", "Ġwhat"]
    assert end_tokens_of(model.decoder) == {50_118}


def test_blip2_without_the_start_token_is_refused(config, profile, cache, tmp_path):
    path, revision = profile["blip2"]
    right = REPOSITORIES[path](False)
    tokenizer = json.loads(right.files["tokenizer.json"])
    tokenizer["post_processor"] = None
    files = {**right.files, "tokenizer.json": json.dumps(tokenizer)}
    write(tmp_path, path, revision, replace(right, files=files))
    cache(tmp_path)
    with pytest.raises(UserError, match=r"32 tokens .* '</s>'.*post_processor"):
        load("blip2", config)


def test_saving_an_adapter_asks_the_hub_nothing(config, home, cache, monkeypatch, tmp_path):
    def asked(*args, **kwargs):
        raise AssertionError("asked the hub")

    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", asked)
    cache(home)
    blip = load("blip", config)
    model, _ = lora.add_lora(BlipFamily(blip), config.lora)
    lora.save_adapter(model, blip.processor, tmp_path / "adapter")
    found = Adapter.read(tmp_path / "adapter")
    found.check_base(config.models.blip)


def test_llava_reads_its_patches_and_ends(config, home, cache):
    cache(home)
    model = load("llava", config)
    layout = model.preprocess([Image.new("RGB", (64, 48))])[0].layout
    prompt = model.prompts.tokenize(QUESTIONS[0], layout)
    assert prompt[:6] == [1, 32_000, 32_000, 32_000, 32_000, *prompt[5:6]]
    assert 32_000 not in prompt[5:]
    assert end_tokens_of(model.decoder) == {2}  # the repository has no generation_config.json


def test_without_an_end_token_an_answer_is_as_long_as_it_may_be():
    logits = torch.eye(3)[[1, 2]]
    said = greedy(logits, lambda last: logits, set(), 4)
    assert [tokens for tokens, _ in said] == [[1, 1, 1, 1], [2, 2, 2, 2]]


# Bytes of the published files, or their numbers of weights times the size of one.
PUBLISHED = {
    "Salesforce/blip-vqa-base": 1_538_800_584,
    "Salesforce/blip2-opt-2.7b": 9_996_328_120 + 4_982_879_016,
    "timm/vit_base_patch32_clip_224.openai": 605_143_284,
    "llava-hf/llava-1.5-7b-hf": 2 * 7_063_427_072,
    "facebook/bart-large-cnn": 1_625_222_120,
}
HEADER = 130  # bytes a tensor in the header of a safetensors file, at most


@pytest.mark.parametrize("path", PUBLISHED)
def test_the_real_sizes_are_those_of_the_published_files(path):
    repository = REPOSITORIES[path](True)
    more = PUBLISHED[path] - repository.bytes
    assert 0 <= more <= HEADER * len(repository.tensors)


@pytest.mark.parametrize("path", [path for path in REPOSITORIES if not path.startswith("timm/")])
def test_the_library_reads_the_real_sizes_from_the_settings(path, tmp_path):
    """Every stored weight has a parameter, and the other way round, up to what is tied."""
    repository = REPOSITORIES[path](True)
    (tmp_path / "config.json").write_text(json.dumps(repository.files["config.json"]))
    config = AutoConfig.from_pretrained(tmp_path)
    with torch.device("meta"):
        model = getattr(transformers, config.architectures[0])(config)
    stored = sum(
        math.prod(tensor.shape)
        for tensor in repository.tensors
        if tensor.fill != "places" and not tensor.like
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == stored
