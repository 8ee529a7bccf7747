"""What clients send and get."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

_EXAMPLE: JsonDict = {
    "image": "iVBORw0KGgoAAAANSUhEUgAA… (base64)",
    "questions": ["What color is it?", "Is it made of wood?"],
}


def _document_both_names(schema: JsonDict) -> None:
    """Add an example, and `question` as the other name of `questions`."""
    properties: Any = schema["properties"]
    properties["question"] = {
        "type": "string",
        "title": "Question",
        "description": "a single question, instead of `questions`",
    }
    schema["required"] = ["image"]
    schema["oneOf"] = [{"required": ["questions"]}, {"required": ["question"]}]
    schema["examples"] = [_EXAMPLE]


class AnswerRequest(BaseModel):
    """One image, and one or several questions about it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_document_both_names)

    image: str = Field(
        min_length=1,
        description=(
            "JPEG, PNG, WebP, GIF or BMP in base64, or as a data URL; where the operator allows "
            "it, an http(s) URL, or a path below the operator's folder of images"
        ),
    )
    questions: list[str] = Field(min_length=1, description="at least one")

    @model_validator(mode="before")
    @classmethod
    def _accept_question(cls, fields: Any) -> Any:
        """Take `question`, a form's name, for `questions`."""
        if not isinstance(fields, dict) or "question" not in fields or "questions" in fields:
            return fields
        others = {key: value for key, value in fields.items() if key != "question"}
        asked = fields["question"]
        return others | {"questions": asked if isinstance(asked, list) else [asked]}


class QuestionAnswer(BaseModel):
    """The answer to one question, or why there is none."""

    question: str
    answer: str | None = Field(description="null if there is none", examples=["brown"])
    confidence: float | None = Field(
        description="the model's own probability of the answer; null if its family has none",
        examples=[0.83],
    )
    error: str | None = Field(
        description="why there is no answer", examples=[None, "the question is empty"]
    )


class ServedModel(BaseModel):
    """The model that answered."""

    name: str = Field(examples=["finetuned"])
    version: str = Field(examples=["adapter-3f1c92d07a5b"])


class AnswerResponse(BaseModel):
    """The answers, in the order of the questions."""

    model: ServedModel
    answers: list[QuestionAnswer]


class ServerStatus(BaseModel):
    """Whether the server lives, or takes requests."""

    status: str = Field(examples=["ok", "ready"])


class ReloadResult(BaseModel):
    """What is served after a reload."""

    model: ServedModel
    changed: bool = Field(description="whether it is another one than before")
