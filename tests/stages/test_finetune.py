"""The stage's outputs: a plain PEFT folder, history and card; targets, LoRA's variants, merging."""

import json
from pathlib import Path

import pytest
import torch

from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import embeddings_of
from abo_vqa.core.tables import read_table
from abo_vqa.data.archive import open_archive
from abo_vqa.models.merging import merge_adapter
from abo_vqa.stages import finetune
from abo_vqa.training import run
from tests.support import training as project
from tests.support.stages import answer_with_adapter, run_stage

EMBEDDINGS = embeddings_of("blip")

ADAPTER = Path("models/adapter")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return project.make(tmp_path_factory.mktemp("project"))


@pytest.fixture
def workspace(template, tmp_path, monkeypatch):
    monkeypatch.chdir(project.copy(template, tmp_path / "workspace"))
    return tmp_path / "workspace"


def plain_answers(model, processor, rows) -> list[str]:
    """The library's way: one picture and question at a time."""
    answers = []
    with open_archive("data/raw/sample") as archive:
        for path, question in zip(rows["image_path"], rows["question"], strict=True):
            inputs = processor(images=archive.image(path), text=question, return_tensors="pt")
            tokens = model.generate(**inputs, max_new_tokens=10, do_sample=False)
            answers.append(processor.decode(tokens[0], skip_special_tokens=True).strip())
    return answers


def test_the_adapter_is_a_plain_peft_folder(workspace):
    """It answers the same through PEFT and transformers alone, rank and processor included."""
    from peft import PeftModel
    from transformers import AutoProcessor, BlipForQuestionAnswering

    config = project.set_lora({"r": 8, "epochs": 8, "dropout": 0.0})
    summary = run_stage(finetune, config)
    described = read_json(ADAPTER / "adapter_config.json")
    assert described["r"] == 8
    assert described["target_modules"] == ["query", "value"]
    # Tests run with HF_HUB_OFFLINE, which would show here: the same bytes with and without it.
    assert "local_files_only" not in read_json(ADAPTER / "tokenizer_config.json")
    assert summary.model is not None
    assert summary.model.folder == ADAPTER
    rows = read_table("data/train.csv").iloc[:9]
    base = BlipForQuestionAnswering.from_pretrained("models/blip")
    processor = AutoProcessor.from_pretrained(ADAPTER)
    untrained = plain_answers(base, processor, rows)
    model = PeftModel.from_pretrained(base, ADAPTER).eval()
    expected = plain_answers(model, processor, rows)
    assert answer_with_adapter(config, rows)["prediction"].tolist() == expected
    assert expected != untrained


def test_history_and_card(workspace, capsys):
    config = project.load_config()
    summary = run_stage(finetune, config)
    stderr = capsys.readouterr().err
    assert "LoRA on 16 layers, 4,096 trainable parameters" in stderr
    assert "text_decoder.bert.encoder.layer.*.crossattention.self.value (2)" in stderr
    report = read_json("reports/training.json")
    # 2 layers of encoder and decoder, self- and cross-attention, query and value
    assert len(report["matched"]) == report["modules"] == 16
    assert report["trainable_parameters"] == 16 * 4 * (32 + 32)
    assert [step["step"] for step in report["steps"]] == list(range(1, len(report["steps"]) + 1))
    assert report["steps"][0]["lr"] == config.lora.lr
    assert report["best_validation_accuracy"] == max(
        epoch["validation_accuracy"] for epoch in report["epochs"]
    )
    card = (ADAPTER / "README.md").read_text()
    assert f"{report['rows']:,} questions about {report['images']} images" in card
    held_out = report["held_out_rows"]
    assert f"| validated on | {held_out} other questions, held out by group |" in card
    accuracy = f"{report['best_validation_accuracy']:.3f}"
    assert f"| exact match on {held_out} held-out rows | {accuracy} |" in card
    assert f"{accuracy} on {held_out} held-out rows;" in summary.message
    assert summary.metrics["rows_per_second"] > 0
    assert not list(Path(".cache/abo-vqa/finetune").iterdir())  # nothing is left behind


def test_validation_on_training_rows_is_called_that(workspace):
    summary = run_stage(finetune, project.set_lora({"validation": 0, "epochs": 1}))
    report = read_json("reports/training.json")
    assert report["held_out_rows"] == 0
    accuracy = f"{report['best_validation_accuracy']:.3f}"
    assert f"{accuracy} on the training rows;" in summary.message
    assert summary.params == {"validated_on": "the training rows"}
    card = (ADAPTER / "README.md").read_text()
    assert "| validated on | the training rows: none is held out (`lora.validation: 0`) |" in card
    assert f"| exact match on the training rows | {accuracy} |" in card
    assert "held-out" not in summary.message + card


def test_validation_sees_the_adapter_as_it_will_be_merged(workspace):
    """Accuracy while training, with LoRA beside the weights, is the finished model's."""
    config = project.set_lora({"epochs": 6, "r": 16, "lr": 0.03})
    run_stage(finetune, config)
    from abo_vqa.data.normalise import normalise
    from abo_vqa.models.embeddings.store import EmbeddingStore
    from abo_vqa.training.validation import hold_out

    table = run.readable_rows(EmbeddingStore.open(EMBEDDINGS))
    _, held_out = hold_out(table, config)
    predictions = answer_with_adapter(config, table.iloc[held_out])["prediction"]
    answers = table["answer"].iloc[held_out]
    correct = [normalise(p) == normalise(a) for p, a in zip(predictions, answers, strict=True)]
    accuracy = read_json("reports/training.json")["best_validation_accuracy"]
    assert sum(correct) / len(correct) == accuracy


@pytest.mark.parametrize("option", ["rslora", "dora"])
def test_variants_of_lora(workspace, option):
    config = project.set_lora({option: True, "epochs": 3})
    run_stage(finetune, config)
    assert read_json(ADAPTER / "adapter_config.json")[f"use_{option}"] is True
    steps = read_json("reports/training.json")["steps"]
    assert steps[-1]["loss"] < steps[0]["loss"]
    rows = read_table("data/train.csv").iloc[:3]
    assert (answer_with_adapter(config, rows)["error"] == "").all()


def test_targets_that_match_nothing(workspace):
    with pytest.raises(UserError, match=r"no layer is called quary. There are: .*query.*value"):
        run_stage(finetune, project.set_lora({"targets": ["quary", "value"]}))


def test_full_names_are_targets_too(workspace):
    run_stage(
        finetune, project.set_lora({"targets": ["text_encoder.encoder.layer.1.attention.self.key"]})
    )
    assert read_json("reports/training.json")["modules"] == 1


def test_the_vision_tower_may_learn(workspace, capsys):
    """Then pictures are read and encoded anew, in training and by whoever uses the adapter."""
    from peft import PeftModel
    from transformers import AutoProcessor, BlipForQuestionAnswering

    config = project.set_lora({"targets": ["qkv", "query"], "epochs": 6, "lr": 0.03, "dropout": 0})
    run_stage(finetune, config)
    assert "its cached outputs can't be used" in capsys.readouterr().err
    matched = read_json("reports/training.json")["matched"]
    assert any(name.startswith("vision_model") for name in matched)
    rows = read_table("data/train.csv").iloc[:9]
    base = BlipForQuestionAnswering.from_pretrained("models/blip")
    model = PeftModel.from_pretrained(base, ADAPTER).eval()
    after = model.vision_model(torch.ones(1, 3, 32, 32)).last_hidden_state
    with model.disable_adapter():
        before = model.vision_model(torch.ones(1, 3, 32, 32)).last_hidden_state
    assert float((after - before).detach().abs().max()) > 1e-3
    expected = plain_answers(model, AutoProcessor.from_pretrained(ADAPTER), rows)
    assert answer_with_adapter(config, rows)["prediction"].tolist() == expected


def test_quantised_weights_all_the_way(workspace):
    """8 bits (bitsandbytes has a CPU backend): embed, train, answer with adapter and base."""
    from abo_vqa.models.embeddings.store import EmbeddingStore
    from abo_vqa.stages import embed

    profile = Path("conf/profiles/sample.yaml")
    text = profile.read_text().replace(
        "path: models/blip\n", "path: models/blip\n    quantize: 8bit\n"
    )
    profile.write_text(text)
    config = project.set_lora({"epochs": 3})
    assert config.models.blip.quantize == "8bit"
    whole = EmbeddingStore.open(EMBEDDINGS).get(["00/00000001.jpg"])
    with pytest.raises(UserError, match="run the stage `embed`"):
        run_stage(finetune, config)  # the vision outputs are those of weights that aren't quantised
    run_stage(embed, config)
    store = EmbeddingStore.open(EMBEDDINGS)
    assert (store.meta["quantize"], store.meta["arithmetic"]) == ("8bit", "float32")
    assert not torch.equal(store.get(["00/00000001.jpg"]), whole)
    run_stage(finetune, config)
    steps = read_json("reports/training.json")["steps"]
    assert steps[-1]["loss"] < steps[0]["loss"]
    rows = read_table("data/train.csv").iloc[:6]
    assert (answer_with_adapter(config, rows)["error"] == "").all()


def test_weights_are_trained_beside_float32_ones(workspace, monkeypatch):
    """Half precision is for the arithmetic: weights rounded to it would be what LoRA corrects."""
    from abo_vqa.models.blip.model import Blip

    weights = []
    load = Blip.load

    def recorded(*args, **kwargs):
        blip = load(*args, **kwargs)
        weights.extend({parameter.dtype for parameter in blip.model.parameters()})
        exact = blip.model.text_encoder.embeddings.word_embeddings.weight
        weights.append(torch.equal(exact, exact.bfloat16().float()))
        return blip

    monkeypatch.setattr(Blip, "load", recorded)
    profile = Path("conf/profiles/sample.yaml")
    text = profile.read_text().replace(
        "path: models/blip\n", "path: models/blip\n    dtype: bfloat16\n"
    )
    profile.write_text(text)
    config = project.set_lora({"epochs": 1})
    run.train(config, run.checkpoint_folder(config))
    assert weights == [torch.float32, False]


def test_merged_weights_answer_the_same(workspace):
    from transformers import AutoProcessor, BlipForQuestionAnswering

    config = project.set_lora({"epochs": 6, "lr": 0.03})
    run_stage(finetune, config)
    out = merge_adapter(ADAPTER, Path("models/merged"))
    assert not (out / "adapter_config.json").exists()
    rows = read_table("data/train.csv").iloc[:6]
    model = BlipForQuestionAnswering.from_pretrained(out).eval()
    answers = plain_answers(model, AutoProcessor.from_pretrained(out), rows)
    assert answers == answer_with_adapter(config, rows)["prediction"].tolist()
    with pytest.raises(UserError, match="already exists"):
        merge_adapter(ADAPTER, out)


def test_merging_without_an_adapter(tmp_path):
    with pytest.raises(UserError, match="no adapter in"):
        merge_adapter(tmp_path, tmp_path / "out")


def test_another_base_isnt_mistaken(workspace):
    """A checkpoint folder of other settings has another key, so nothing foreign is resumed."""
    from abo_vqa.models.embeddings.store import EmbeddingStore

    store = EmbeddingStore.open(EMBEDDINGS)
    config = project.load_config()
    key = run.training_key(config, store)
    assert key == run.training_key(project.set_lora({"keep_checkpoints": 5}), store)
    workers = config.compute.model_copy(update={"engine": "ray", "workers": 2})
    assert key == run.training_key(config.model_copy(update={"compute": workers}), store)
    assert key != run.training_key(project.set_lora({"alpha": 3}), store)
    weights = Path("models/blip/config.json")
    described = json.loads(weights.read_text())
    weights.write_text(json.dumps(described, indent=1))
    assert key != run.training_key(project.set_lora({"alpha": config.lora.alpha}), store)
