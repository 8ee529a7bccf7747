"""What a local model is asked for, and whether that fits into it, known before it is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from transformers import AutoConfig, AutoTokenizer

from abo_vqa.annotate.explain import too_long_remedy
from abo_vqa.annotate.prompt import instruction
from abo_vqa.annotate.tasks import Task
from abo_vqa.core.errors import UserError
from abo_vqa.data.pairs import REPLY_FORMAT
from abo_vqa.models.loading import load_processor
from abo_vqa.models.registry import checkpoint_of
from abo_vqa.models.writing import describe_shortage, token_limit

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.core.service_config import GenerateConfig

_SAMPLE = 100  # images whose prompts are compared


def system_text(settings: GenerateConfig) -> str:
    """Return the instruction, the same for all images."""
    return instruction(settings.prompt, settings.questions, settings.allow_brands)


def prompt_text(task: Task, system: str) -> str:
    """Return the prompt for the pairs that a task lacks.

    Args:
        task: the image.
        system: the result of `system_text`.
    """
    return f"{system}\n\n{task.request(system).text}\n\n{REPLY_FORMAT}"


def require_room(config: Config, tasks: Iterable[Task]) -> None:
    """Check that the model has room for a prompt and a reply.

    The image takes room as well; how much, only the loaded model knows.

    Args:
        config: the run's configuration.
        tasks: the images; those that aren't open don't matter.

    Raises:
        UserError: not even the shortest prompt fits, or the model's checkpoint can't be read.
    """
    open_tasks = list(islice((task for task in tasks if task.is_open), _SAMPLE))
    if not open_tasks:
        return
    settings = config.generate
    checkpoint, system = checkpoint_of(settings.model, config), system_text(settings)
    maximum = token_limit(load_processor(AutoConfig, checkpoint))
    tokenizer = load_processor(AutoTokenizer, checkpoint)
    prompt = min((prompt_text(task, system) for task in open_tasks), key=len)
    length = len(tokenizer(prompt).input_ids)
    if problem := describe_shortage(length, settings.max_output_tokens, maximum, "the texts alone"):
        raise UserError(
            f"generate.model: {settings.model} ({checkpoint.path}) can't write pairs: {problem} "
            f"with the image. {too_long_remedy(settings)} Or choose another model."
        )
