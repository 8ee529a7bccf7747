"""Which models had a part in making the rows on which they are scored."""

from __future__ import annotations

import pytest

from abo_vqa.core.circularity import Part, circular_models, circularity_warnings
from abo_vqa.core.config import CheckpointConfig, Config, load_config
from abo_vqa.core.service_config import EndpointConfig

SCORED = ("blip", "blip-ranked", "clip-all", "finetuned", "finetuned-ranked", "gpt", "llava",
          "blind-ngram")  # fmt: skip


@pytest.fixture
def config() -> Config:
    """The sample's settings, with BLIP under a second name and a model behind an API."""
    config = load_config()
    endpoint = EndpointConfig(protocol="openai", model="gpt-x")
    more = {
        "blip-ranked": config.models.blip.model_copy(update={"decoding": "ranked"}),
        "gpt": CheckpointConfig(path="gpt", family="endpoint", endpoint=endpoint),
    }
    models = type(config.models).model_validate(config.models.model_dump() | more)
    return config.model_copy(update={"models": models})


@pytest.mark.parametrize(
    ("verifiers", "expected"),
    [
        ((), ()),
        (("blip", "blind"), ("blip", "blip-ranked", "finetuned", "finetuned-ranked")),
        (("clip-fixed",), ("clip-all",)),
        (("gpt", "llava"), ("gpt", "llava")),
    ],
)
def test_whoever_shares_weights_with_a_filter(
    config: Config, verifiers: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    parts = circular_models(config, SCORED, verifiers, capped=False)
    assert parts == dict.fromkeys(expected, Part.AGREEMENT)
    parts = circular_models(config, SCORED, (), capped=True)
    assert parts == {"blind-ngram": Part.CAP}


@pytest.mark.parametrize(
    ("annotator", "model", "expected"),
    [("local", "llava", "llava"), ("openai", "gpt-x", "gpt"), ("offline", "gpt-x", "")],
)
def test_whoever_wrote_the_answers(
    config: Config, annotator: str, model: str, expected: str
) -> None:
    written = config.generate.model_copy(update={"annotator": annotator, "model": model})
    changed = config.model_copy(update={"generate": written})
    parts = circular_models(changed, SCORED, (), capped=False)
    assert parts == ({expected: Part.ANNOTATOR} if expected else {})


def test_a_warning_before_a_model_is_scored_on_what_it_filters(config: Config) -> None:
    def warnings(**verify: object) -> list[str]:
        changed = config.verify.model_copy(update=verify)
        return circularity_warnings(config.model_copy(update={"verify": changed}))

    assert warnings(models=("blip", "blind")) == []
    (warning,) = warnings(models=("blip", "blind"), min_agreement=0.5)
    assert warning.startswith("warning: blip, finetuned: verify.min_agreement")
    (warning,) = warnings(models=("blip", "blind"), blind_share=0.2)
    assert warning.startswith("warning: blind: verify.blind_share")
    assert warnings(models=("gpt", "blind"), min_agreement=0.5) == []
