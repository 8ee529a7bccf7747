"""What all groups of settings share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class BaseConfig(BaseModel):
    """A frozen group of settings, in which unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
