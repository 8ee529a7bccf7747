"""How servers word what they don't take of the protocol, and what is left out then."""

from __future__ import annotations

from typing import Any

import pytest

from abo_vqa.remote.errors import RefusedThinkingError, RequestRefusedError
from abo_vqa.remote.openai_dialect import Dialect, from_parameter_names, parameter_names
from abo_vqa.remote.openai_errors import error_from_body

GEMMA = "models/gemma-3-27b-it"
BODY: dict[str, Any] = {
    "messages": [{"role": "system", "content": "Write."}, {"role": "user", "content": "This."}],
    "max_tokens": 1024,
    "temperature": 0.0,
    "reasoning_effort": "minimal",
    "response_format": {"type": "json_schema"},
}


def adapted(message: str, parameter: str = "") -> Dialect | None:
    """The dialect after a refused request; None if it isn't sent again. Batch jobs learn alike."""
    dialects = Dialect.of_server("http://localhost/v1"), Dialect.of_server("http://localhost/v1")
    bodies = BODY, from_parameter_names(parameter_names(BODY))
    first, second = (d.adapt(b, parameter, message) for d, b in zip(dialects, bodies, strict=True))
    assert first == second
    return dialects[0] if first else None


@pytest.mark.parametrize(
    "message",
    [
        f"JSON mode is not enabled for {GEMMA}",
        "Invalid JSON payload received. Unknown name \"additionalProperties\" at "
        "'generation_config.response_schema': Cannot find field.",
        "'response_format.type' must be 'text'",
        "This response_format type is unavailable now",
        "Structured outputs are not enabled",
        "Invalid response_format provided: strict json_schema requires additionalProperties",
        'response_format type must be one of "text" or "json_object", but got: json_schema',
        "Grammar error: Failed to convert the grammar",
        "The provided JSON schema contains features not supported by xgrammar.",
    ],
)  # fmt: skip
def test_less_than_a_schema_is_asked_for(message: str) -> None:
    dialect = adapted(message)
    assert dialect
    assert dialect.response_format == "json_object"
    assert dialect.has_system_role
    assert not dialect.refused


@pytest.mark.parametrize(
    "message",
    [
        f"Developer instruction is not enabled for {GEMMA}",
        "System role not supported",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Only user and assistant roles are supported!",
        "'messages[0].role' does not support 'system message' with this model.",
    ],
)
def test_instructions_move_into_the_users_turn(message: str) -> None:
    dialect = adapted(message)
    assert dialect
    assert not dialect.has_system_role
    assert dialect.response_format == "json_schema"


@pytest.mark.parametrize(
    ("message", "parameter", "name"),
    [
        ("Unrecognized request argument supplied: reasoning_effort", "", "reasoning_effort"),
        ('"llava" does not support thinking', "", "reasoning_effort"),
        (
            "Unable to submit request because thinking is not supported by this model.",
            "",
            "reasoning_effort",
        ),
        (
            "Unsupported parameter: 'reasoning_effort' is not supported with this model.",
            "reasoning_effort",
            "reasoning_effort",
        ),
        (
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default "
            "(1) value is supported.",
            "temperature",
            "temperature",
        ),
        ("`temperature` may only be set to 1 when thinking is enabled.", "", "temperature"),
    ],
)
def test_unknown_parameters_are_left_out(message: str, parameter: str, name: str) -> None:
    dialect = adapted(message, parameter)
    assert dialect
    assert dialect.refused == {name}
    error = error_from_body(400, {"error": {"message": message, "param": parameter}})
    assert type(error) is RequestRefusedError


@pytest.mark.parametrize(
    ("message", "parameter"),
    [
        (
            "Unsupported value: 'minimal' is not supported with the 'gpt-5.1' model. Supported "
            "values are: 'none', 'low', 'medium', and 'high'.",
            "reasoning_effort",
        ),
        (
            "invalid reasoning value: 'minimal' (must be \"high\", \"medium\", \"low\", \"max\", "
            'or "none")',
            "",
        ),
        (
            "[{'type': 'literal_error', 'loc': ('body', 'reasoning_effort'), 'msg': \"Input should "
            "be 'low', 'medium' or 'high'\", 'input': 'minimal'}]",
            "",
        ),
        ("`reasoning_effort` must be one of `none` or `default`", ""),
        ("Thinking level is not supported for this model.", ""),
        ("Budget 0 is invalid. This model only works in thinking mode.", ""),
        ("Reasoning is mandatory for this endpoint and cannot be disabled.", ""),
    ],
)  # fmt: skip
def test_a_refused_level_of_thinking_is_no_unknown_parameter(message: str, parameter: str) -> None:
    body = {"error": {"message": message, "param": parameter, "type": "invalid_request_error"}}
    for given in (body, [body]):  # Google's endpoint sends a list
        error = error_from_body(400, given)
        assert isinstance(error, RefusedThinkingError)
        assert message.rstrip(".") in str(error)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 2048 tokens. However, you requested 3000 tokens.",
        "You uploaded an unsupported image.",
        "The response was filtered due to the prompt triggering the content management policy.",
        "The image should be a JPEG (Qwen/Qwen3-VL-8B-Thinking)",
    ],
)
def test_what_is_no_parameters_fault(message: str) -> None:
    dialect = adapted(message)
    assert dialect is None or not dialect.refused
    assert type(error_from_body(400, {"error": {"message": message}})) is RequestRefusedError
