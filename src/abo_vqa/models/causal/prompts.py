"""Questions in a checkpoint's prompt, as token ids; and answers as the tokens that continue it.

Everything is tokenized as the library's processors do: the whole prompt as one text in which the
image token is expanded, so that tokens that reach across a seam come out the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from jinja2 import TemplateError
from PIL import Image

from abo_vqa.core.errors import first_line

if TYPE_CHECKING:
    from transformers import ProcessorMixin

    from abo_vqa.models.encoded import ImageLayout

_QUESTION = "what is it?"  # any; what an answer's tokens are doesn't depend on it


class PromptBuilder:
    """Writes prompts and the answers that continue them, without a chat template.

    Args:
        processor: a processor of transformers.
        prompt: the checkpoint's prompt, with {question}.
        end_tokens: the tokens that end an answer.
    """

    def __init__(self, processor: ProcessorMixin, prompt: str, end_tokens: Collection[int]) -> None:
        self.processor, self.prompt = processor, prompt
        self.tokenizer = processor.tokenizer
        self._end_tokens = end_tokens
        self._answers: dict[str, list[int]] = {}
        self._tail: str | None = None

    def write(self, question: str) -> str:
        """Return the prompt with the image token in it once, not yet expanded."""
        token = str(self.processor.image_token)
        text = self.prompt.replace("{question}", question)
        if token not in self.prompt:
            text = token + text
        # Some processors add a start token and a line break around the prompt.
        blank = Image.new("RGB", (8, 8))
        _, [text], *_ = self.processor.prepare_inputs_layout(images=[blank], text=[text])
        return str(text)

    def continue_with(self, answer: str) -> str:
        """Return the text that continues a prompt with an answer, without an end token."""
        return answer if self.tail[-1:].isspace() else f" {answer}"

    @property
    def tail(self) -> str:
        """What comes after the image token in a prompt."""
        if self._tail is None:
            token = getattr(self.processor, "image_token", None)
            text = self.write(_QUESTION)
            self._tail = text.rpartition(str(token))[2] if token else text
        return self._tail

    def tokenize(self, question: str, layout: ImageLayout) -> list[int]:
        """Return a prompt's token ids, with a placeholder for each of the image's tokens.

        Args:
            question: the question.
            layout: the image's.
        """
        [text], _ = self.processor.get_text_with_replacements([self.write(question)], [layout.text])
        start = self.tokenizer.bos_token
        # As the processors do: a template may have written the start token already.
        special = start is None or not text.startswith(start)
        ids: list[int] = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        return ids

    def answer_tokens(self, answer: str) -> list[int]:
        """Return the tokens of an answer after its prompt, the end token included.

        Args:
            answer: the answer.
        """
        if answer not in self._answers:
            self._answers[answer] = self._tokenize_answer(answer)
        return self._answers[answer]

    def _tokenize_answer(self, answer: str) -> list[int]:
        """Tokenize an answer in its place: at the start of a text its tokens may be others."""
        text = self.continue_with(answer)
        before, whole, alone = (
            self.tokenizer(part, add_special_tokens=False)["input_ids"]
            for part in (self.tail, self.tail + text, text)
        )
        ids: list[int] = whole[len(before) :] if whole[: len(before)] == before else alone
        for position, token in enumerate(ids):
            if token in self._end_tokens:
                return ids[: position + 1]
        return [*ids, self.end_token]

    @property
    def end_token(self) -> int:
        """The token that ends an answer."""
        end: int | None = self.tokenizer.eos_token_id
        if end is None or (self._end_tokens and end not in self._end_tokens):
            end = min(self._end_tokens, default=end)
        if end is None:
            raise ValueError("the tokenizer has no end token")
        return end

    def problem(self) -> str:
        """Return why the checkpoint's prompt can't be used, or ""."""
        token = getattr(self.processor, "image_token", None)
        if token is None:  # known to the library's own processor only
            return ""
        try:
            count = self.write(_QUESTION).count(str(token))
        except TemplateError as error:
            return f"its chat template fails: {first_line(error)}"
        if count > 1:
            return (
                f"the prompt {self.prompt!r} makes {count} images of one. Leave {token} out of it: "
                "the image is put in front of the question, or where the chat template has it"
            )
        return "" if count else f"its chat template has no place for an image ({token})"

    def question_errors(
        self,
        questions: Sequence[str],
        choices: Sequence[Sequence[str]] | None,
        check: Callable[[list[str]], list[str]],
    ) -> list[str]:
        """Check questions; an image token in one, or in a choice, would be taken for an image.

        Args:
            questions: the questions.
            choices: see `VQAModel.text_lengths`.
            check: checks questions without such tokens; see `VQAModel.question_errors`.

        Returns:
            For each question an error message, or "".
        """
        options = [()] * len(questions) if choices is None else choices
        faults = [
            self._image_token_in([question], "the question")
            or self._image_token_in(row, "a choice")
            for question, row in zip(questions, options, strict=True)
        ]
        errors = check(["?" if f else q for q, f in zip(questions, faults, strict=True)])
        return [fault or error for fault, error in zip(faults, errors, strict=True)]

    def _image_token_in(self, texts: Sequence[str], subject: str) -> str:
        """Return an error message if one of the texts contains a token for images, or ""."""
        for token in map(str, self.processor.all_special_multimodal_tokens):
            if any(token in text for text in texts):
                return f"{subject} contains {token}, which stands for an image"
        return ""


class ChatPromptBuilder(PromptBuilder):
    """Writes prompts as a user's message in the checkpoint's chat template."""

    def write(self, question: str) -> str:
        """Return the user's message with the image token in it once, not yet expanded."""
        text: str = self.processor.apply_chat_template(
            [self._message(question)], add_generation_prompt=True, tokenize=False
        )
        return text

    def _message(self, question: str) -> dict[str, object]:
        """Return the user's message in the form that templates take."""
        text = self.prompt.replace("{question}", question)
        return {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}

    def continue_with(self, answer: str) -> str:
        """Return what the template writes after a prompt when the assistant has answered."""
        reply = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        text: str = self.processor.apply_chat_template(
            [self._message(_QUESTION), reply], tokenize=False
        )
        prompt = self.write(_QUESTION)
        if not text.startswith(prompt):  # some templates write an answered prompt differently
            return super().continue_with(answer)
        return text.removeprefix(prompt)
