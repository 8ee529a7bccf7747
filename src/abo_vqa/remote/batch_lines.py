"""Lines of a batch job's results: what a server writes there may be anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from abo_vqa.core.log import get_logger

logger = get_logger(__name__)

_LineT = TypeVar("_LineT", bound=BaseModel)


def parse_results(data: bytes, kind: type[_LineT]) -> Iterator[_LineT]:
    """Yield the lines of a file of JSON lines; those that aren't of a kind are skipped.

    A damaged line can't be repaired by downloading it again. So it is no reason to give up the
    others, which are paid for: its image counts as unanswered. A warning has their number.

    Args:
        data: the file.
        kind: the Pydantic model of a line.
    """
    damaged, first = 0, ""
    for line in filter(None, map(bytes.strip, data.splitlines())):
        try:
            yield kind.model_validate_json(line)
        except ValidationError as error:
            damaged += 1
            details = error.errors(include_url=False)[0]
            place = ".".join(map(str, details["loc"]))
            first = first or f"{place}: {details['msg']}".removeprefix(": ")
    if damaged:
        logger.warning(
            f"a batch job's results have {damaged:,} damaged lines, which are skipped ({first})"
        )
