"""The models that a page asks: loaded once, when the first question comes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from abo_vqa.core.errors import AboVqaError
from abo_vqa.core.log import get_logger
from abo_vqa.core.memory import out_of_memory, release_memory
from abo_vqa.core.paths import ADAPTER, FINETUNED_MODEL, FINETUNED_MODELS, SAMPLE_MODELS
from abo_vqa.models.answering.finetuned import load_by_name
from abo_vqa.models.candidates import train_candidates
from abo_vqa.models.explaining.blind import BlindExplainer
from abo_vqa.models.explaining.registry import explainer_of
from abo_vqa.models.registry import BLIND_MODEL, checkpoint_of, require_model
from abo_vqa.models.sharing import share_equal_weights, vision_weights

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.core.config import Config
    from abo_vqa.models.explaining.explainer import Explainer
    from abo_vqa.models.explaining.explanations import Explanation

logger = get_logger(__name__)

Kind = Literal["zero-shot", "finetuned", "blind"]


@dataclass(frozen=True)
class Respondent:
    """A model on the page.

    Attributes:
        name: the model's name, or "finetuned", "finetuned-ranked" or "blind".
        kind: as in the report.
        title: for a column's head.
        subtitle: what it is, in a few words.
    """

    name: str
    kind: Kind
    title: str
    subtitle: str


@dataclass(frozen=True)
class ModelReply:
    """What a respondent gave to a question.

    Attributes:
        respondent: who.
        explanation: the answer with its explanation; None if there is none.
        problem: why there is none, as a sentence; empty if there is one.
    """

    respondent: Respondent
    explanation: Explanation | None
    problem: str = ""


def default_models(config: Config) -> tuple[str, ...]:
    """Return the names of the page's models: the base as it is, fine-tuned, and blind.

    Args:
        config: the settings.
    """
    return config.lora.model, FINETUNED_MODEL, BLIND_MODEL


class Respondents:
    """The models of a page, which answer one question at a time.

    Args:
        config: the settings.
        names: the models' names; None: `default_models`.
        adapter: the PEFT folder of the fine-tuned model.

    Attributes:
        respondents: the models.
        from_sample: whether one of them is the embedded sample's, which knows its own images only.

    Raises:
        UserError: no model is called so.
    """

    def __init__(
        self, config: Config, names: Sequence[str] | None = None, adapter: Path = ADAPTER
    ) -> None:
        chosen = default_models(config) if names is None else tuple(names)
        for name in chosen:
            require_model(name, config, (*FINETUNED_MODELS, BLIND_MODEL))
        self.respondents = tuple(_describe(name, config) for name in chosen)
        self.from_sample = any(_is_of_sample(name, config) for name in chosen)
        self._config, self._adapter = config, adapter
        self._explainers: dict[str, Explainer[Any]] = {}
        self._blind: BlindExplainer | None = None
        self._lock = threading.Lock()

    def ask(self, image: Image, question: str) -> Iterator[ModelReply]:
        """Ask all models, one after the other.

        Args:
            image: the image.
            question: the question.

        Yields:
            Each model's reply, as soon as it is there.
        """
        encoded: dict[Any, Any] = {}  # vision weights → the image, encoded with them
        for respondent in self.respondents:
            with self._lock:
                reply = self._reply(respondent, image, question, encoded)
            yield reply  # outside: a reader who has left must not keep others out

    def _reply(
        self, respondent: Respondent, image: Image, question: str, encoded: dict[Any, Any]
    ) -> ModelReply:
        """Ask one model; whatever goes wrong with it concerns its own column only."""
        try:
            if respondent.kind == "blind":
                return ModelReply(respondent, self._blind_explainer().explain(question))
            return ModelReply(respondent, self._explain(respondent.name, image, question, encoded))
        except AboVqaError as error:
            return ModelReply(respondent, None, _sentence(str(error)))
        except Exception as error:
            if out_of_memory(error):
                release_memory()
                problem = "Out of memory. Try again when other programs have ended."
            else:
                logger.exception(f"{respondent.name} failed on a question from the page")
                problem = "Something went wrong with this model; the server's log has the details."
            return ModelReply(respondent, None, problem)

    def _explain(
        self, name: str, image: Image, question: str, encoded: dict[Any, Any]
    ) -> Explanation:
        """Explain a model's answer; models with the same vision weights encode the image once."""
        explainer = self._explainer(name)
        model = explainer.model

        def encode(images: Sequence[Image]) -> Any:
            key = vision_weights(model) or name
            if key not in encoded:
                encoded[key] = model.encode_images(images)
            return encoded[key]

        return explainer.explain(image, question, encode)

    def _explainer(self, name: str) -> Explainer[Any]:
        """Return a model's explainer, and load the model if need be."""
        if name not in self._explainers:
            model = load_by_name(name, self._config, self._adapter)
            for other in self._explainers.values():
                if released := share_equal_weights(model, other.model):
                    logger.info(
                        f"{name} shares {released / 2**20:,.0f} MiB of weights with another model"
                    )
            self._explainers[name] = explainer_of(model, train_candidates(self._config))
        return self._explainers[name]

    def _blind_explainer(self) -> BlindExplainer:
        """Return the blind baseline's explainer, and fit it if need be."""
        if self._blind is None:
            self._blind = BlindExplainer.load()
        return self._blind


def _is_of_sample(name: str, config: Config) -> bool:
    """Tell whether a model's checkpoint, or its adapter's base, is one of the embedded sample."""
    if name == BLIND_MODEL:
        return False
    checkpoint = checkpoint_of(config.lora.model if name in FINETUNED_MODELS else name, config)
    return Path(checkpoint.path).absolute().is_relative_to(SAMPLE_MODELS.absolute())


def _describe(name: str, config: Config) -> Respondent:
    """Return how a model is called on the page."""
    if name == BLIND_MODEL:
        return Respondent(name, "blind", "Blind", "n-grams of the question, without the image")
    if name in FINETUNED_MODELS:
        decoding = "" if name == FINETUNED_MODEL else ", choosing among train's answers"
        return Respondent(
            name, "finetuned", "Fine-tuned", f"{config.lora.model} with the LoRA adapter{decoding}"
        )
    return Respondent(name, "zero-shot", "Zero-shot", f"{name}, without fine-tuning")


def _sentence(text: str) -> str:
    """Return a message of the command line as a sentence of its own."""
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?", "!")) else ".")
