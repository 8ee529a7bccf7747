"""What all groups of settings share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]


SECRET = "secret_in_setting"  # type of the errors about values that no message may repeat


def secret_in_setting(message: str) -> PydanticCustomError:
    """Return the error for a value that seems to hold a secret.

    Args:
        message: what is wrong, without the value.
    """
    return PydanticCustomError(SECRET, "{message}", {"message": message})


class BaseConfig(BaseModel):
    """A frozen group of settings, in which unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
