"""The fine-tuned model is called by its base, in the study's rows by the study's."""

from contextvars import copy_context

from abo_vqa.reporting import formatting
from abo_vqa.reporting.figures.study import _study_label


def test_the_fine_tuned_model_is_called_by_its_base():
    def labels(base):
        formatting.name_finetuned(base)
        names = ("finetuned", "finetuned-ranked", "llava")
        return [*map(formatting.model_label, names), _study_label("finetuned")]

    def of(base):
        return copy_context().run(labels, base)

    assert of("blip") == ["BLIP + LoRA", "BLIP + LoRA, ranked", "LLaVA", "BLIP + LoRA"]
    assert of("llava") == ["LLaVA + LoRA", "LLaVA + LoRA, ranked", "LLaVA", "BLIP + LoRA"]
    assert of("mine") == ["mine + LoRA", "mine + LoRA, ranked", "LLaVA", "BLIP + LoRA"]
