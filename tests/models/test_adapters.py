"""Adapters of one's own and of others: shared weights, foreign bases, broken folders."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import BlipForQuestionAnswering

from abo_vqa.core.config import CheckpointConfig
from abo_vqa.core.errors import UserError
from abo_vqa.models.adapters import Adapter
from abo_vqa.models.identity import same_checkpoint
from abo_vqa.models.merging import merge_adapter
from tests.support.adapters import adapter_for

TIED = [["word_embeddings"], ["decoder"], ["query", "value", "decoder"],
        ["word_embeddings", "decoder", "dense"]]  # fmt: skip


def logits(model) -> torch.Tensor:
    """Next-token scores for a fixed picture, question and answer."""
    chance = torch.Generator().manual_seed(2)
    pixels = torch.randn(1, 3, 32, 32, generator=chance)
    question, answer = torch.tensor([[2, 7, 9, 11, 3]]), torch.tensor([[2, 20, 21]])
    with torch.no_grad():
        seen = model.vision_model(pixels).last_hidden_state
        states = model.text_encoder(question, encoder_hidden_states=seen).last_hidden_state
        return model.text_decoder(answer, encoder_hidden_states=states, use_cache=False).logits


@pytest.mark.parametrize("targets", TIED, ids="+".join)
@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_merging_shared_weights_changes_nothing(folders, load, tmp_path, targets, dora):
    """In memory, and after saving and loading."""
    adapter = adapter_for(folders["blip"], tmp_path / "adapter", targets, use_dora=dora)
    base = BlipForQuestionAnswering.from_pretrained(folders["blip"])
    before = logits(base)
    expected = logits(PeftModel.from_pretrained(base, adapter).eval().get_base_model())
    assert float((expected - before).abs().max()) > 1e-2
    merged = load("blip", adapter=adapter)
    torch.testing.assert_close(logits(merged.model), expected, rtol=1e-4, atol=1e-4)
    out = merge_adapter(adapter, tmp_path / "merged")
    saved = BlipForQuestionAnswering.from_pretrained(out).eval()
    torch.testing.assert_close(logits(saved), logits(merged.model), rtol=0, atol=0)
    ours = load("blip", settings={"path": str(out)})
    torch.testing.assert_close(logits(ours.model), logits(merged.model), rtol=0, atol=0)


def test_weights_that_arent_touched_stay_shared(folders, load, tmp_path):
    adapter = adapter_for(folders["blip"], tmp_path / "adapter", ["query"])
    decoder = load("blip", adapter=adapter).model.text_decoder
    shared = decoder.bert.embeddings.word_embeddings.weight
    assert decoder.cls.predictions.decoder.weight is shared


@pytest.fixture
def adapter(folders, tmp_path) -> Path:
    return adapter_for(folders["blip"], tmp_path / "adapter", ["query", "value"])


def describe(adapter: Path, **changes) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_merging_a_folder_of_plain_peft_takes_the_bases_processor(adapter, tmp_path, capsys):
    from transformers import AutoProcessor

    out = merge_adapter(adapter, tmp_path / "merged")
    assert "taking the base model's" in capsys.readouterr().err
    assert AutoProcessor.from_pretrained(out).tokenizer.bos_token == "[DEC]"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"


def weights_gone(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()


def pointer(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").write_text(POINTER)


def described_by_pointer(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text(POINTER)


def cut(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def empty(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").write_bytes(b"")


def pickled(adapter: Path, content: bytes) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(content)


def no_pickle(adapter: Path) -> None:
    pickled(adapter, b"no pickle")


def pickle_of_nothing_known(adapter: Path) -> None:
    pickled(adapter, b"h\x07.")  # an object that the file hasn't defined


def pickle_cut_in_a_number(adapter: Path) -> None:
    pickled(adapter, b"\x80\x02J\x01")


def pickle_without_names(adapter: Path) -> None:
    pickled(adapter, b"")
    torch.save([torch.ones(1)], adapter / "adapter_model.bin")


def no_json(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text("{")


def no_mapping(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text("[]")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (weights_gone, "has no weights"),
        (pointer, "Git LFS pointer"),
        (described_by_pointer, "Git LFS pointer"),
        (cut, "damaged or incomplete"),
        (empty, "damaged or incomplete"),
        (no_pickle, "damaged or incomplete"),
        (pickle_of_nothing_known, "damaged or incomplete"),
        (pickle_cut_in_a_number, "damaged or incomplete"),
        (pickle_without_names, "no named tensors"),
        (no_json, "isn't a PEFT adapter's description"),
        (no_mapping, "isn't a PEFT adapter's description"),
    ],
)
def test_broken_folders(adapter, load, tmp_path, damage, told):
    damage(adapter)
    with pytest.raises(UserError, match=told):
        load("blip", adapter=adapter)
    with pytest.raises(UserError, match=told):
        merge_adapter(adapter, tmp_path / "merged")


def renamed(adapter: Path, change) -> None:
    from safetensors.torch import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)


def test_another_width(adapter, load):
    renamed(adapter, lambda w: {k: v.repeat(2, 2) for k, v in w.items()})
    with pytest.raises(UserError, match=r"doesn't fit this model.*size mismatch"):
        load("blip", adapter=adapter)


def test_weights_that_no_layer_takes(adapter, load):
    """PEFT would answer like the base, without a word."""
    renamed(adapter, lambda w: {k.replace("layer.1.", "layer.9."): v for k, v in w.items()})
    with pytest.raises(UserError, match="made for another base"):
        load("blip", adapter=adapter)
    renamed(adapter, lambda w: {k: v for k, v in w.items() if "layer.0." in k})
    with pytest.raises(UserError, match="made for another base"):
        load("blip", adapter=adapter)


def test_layers_that_arent_there(adapter, load):
    describe(adapter, target_modules=["quary"])
    with pytest.raises(UserError, match="doesn't fit this model"):
        load("blip", adapter=adapter)


def test_an_adapter_of_another_base(adapter, load):
    describe(adapter, base_model_name_or_path="Salesforce/blip-vqa-capfilt-large")
    with pytest.raises(UserError, match=r"made for Salesforce/blip-vqa-capfilt-large, but"):
        load("blip", adapter=adapter)


def test_a_base_that_isnt_named(adapter, load, folders, tmp_path, capsys):
    describe(adapter, base_model_name_or_path=None)
    load("blip", adapter=adapter)
    assert "doesn't say which base" in capsys.readouterr().err
    with pytest.raises(UserError, match="--base"):
        merge_adapter(adapter, tmp_path / "merged")
    assert merge_adapter(adapter, tmp_path / "merged", str(folders["blip"])).is_dir()


def test_merging_into_another_base_than_the_adapters(adapter, folders, tmp_path):
    """The advice is about what was typed: merging reads no profile."""
    describe(adapter, base_model_name_or_path="Salesforce/blip-vqa-capfilt-large")
    with pytest.raises(
        UserError, match=r"but --base is .*meaningless. Leave --base out; or, if both"
    ) as refused:
        merge_adapter(adapter, tmp_path / "merged", str(folders["blip"]))
    assert "profile" not in str(refused.value)


def test_another_revision_is_said(adapter, capsys):
    describe(adapter, revision="one")
    found = Adapter.read(adapter)
    found.check_base(CheckpointConfig(path=str(found.base), revision="two"))
    assert "made for revision one" in capsys.readouterr().err


def test_a_copy_of_a_base_is_the_same(folders, tmp_path):
    import shutil

    copy = shutil.copytree(folders["blip"], tmp_path / "copy")
    assert same_checkpoint(str(folders["blip"]), str(copy))
    (copy / "config.json").write_text("{}")
    assert not same_checkpoint(str(folders["blip"]), str(copy))
    assert same_checkpoint("Salesforce/x", "Salesforce/x")
    assert not same_checkpoint("Salesforce/x", str(copy))


def described(folder: Path, **changes) -> None:
    """Change what an adapter says of itself."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_an_adapter_for_extractive_question_answering(folders, load, tmp_path) -> None:
    """As the study made its own: a head that BLIP hasn't is named, and no weights of it saved."""
    adapter = adapter_for(folders["blip"], tmp_path / "adapter", ["query", "value"])
    expected = logits(load("blip", adapter=adapter).model)
    described(adapter, task_type="QUESTION_ANS", modules_to_save=["qa_outputs"])
    torch.testing.assert_close(logits(load("blip", adapter=adapter).model), expected)
    out = merge_adapter(adapter, tmp_path / "merged")
    merged = BlipForQuestionAnswering.from_pretrained(out).eval()
    torch.testing.assert_close(logits(merged), expected, rtol=1e-5, atol=1e-5)


def test_whole_modules_beside_the_adapter_are_used(folders, load, tmp_path) -> None:
    adapter = adapter_for(
        folders["blip"], tmp_path / "adapter", ["query"], modules_to_save=["transform"]
    )
    base = BlipForQuestionAnswering.from_pretrained(folders["blip"])
    adapted = PeftModel.from_pretrained(base, adapter)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "modules_to_save" in name and parameter.ndim == 2:
                parameter.add_(0.1)
    adapted.save_pretrained(adapter)
    expected = logits(adapted.eval().get_base_model())
    torch.testing.assert_close(
        logits(load("blip", adapter=adapter).model), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_doesnt_swallow_an_adapter(folders, load, tmp_path, dtype) -> None:
    """Most of what training adds is smaller than a step of half precision at the weight's size."""
    adapter = adapter_for(folders["blip"], tmp_path / "adapter", ["query", "value"])
    found = load("blip", {"dtype": dtype}, adapter=adapter)
    assert found.record()["dtype"] == "float32"
    torch.testing.assert_close(
        logits(found.model), logits(load("blip", adapter=adapter).model), rtol=0, atol=0
    )


@pytest.mark.parametrize("where", ["attach", "float"])
def test_memory_that_runs_out_isnt_the_adapters_fault(adapter, load, monkeypatch, where) -> None:
    def full(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    if where == "attach":
        monkeypatch.setattr(PeftModel, "from_pretrained", full)
    else:
        monkeypatch.setattr(BlipForQuestionAnswering, "float", full)
    with pytest.raises(UserError, match="out of memory") as told:
        load("blip", adapter=adapter)
    assert "doesn't fit" not in str(told.value)
