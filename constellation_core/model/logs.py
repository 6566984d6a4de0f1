"""What becomes of what an instance writes."""

from __future__ import annotations

from dataclasses import KW_ONLY, field
from typing import Annotated, Self, cast

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from constellation_core.model.resources import Size
from constellation_core.model.strict import STRICT, Argument, matching

LogDriver = Annotated[
    str,
    matching(
        r"[a-z0-9][a-z0-9_./:-]{0,127}", "expected the name of one of the engine's log drivers"
    ),
]


@dataclass(frozen=True, config=STRICT)
class LogOptions:
    """How much of an instance's output is kept, and where.

    Attributes:
        max_size: of one log file, before the next one is begun.
        max_files: how many are kept, the current one among them.
        driver: the engine's own log driver, where output shall go elsewhere; ``constellation
            logs`` may then find nothing.
        options: of that driver. They travel with the definition: no secret belongs here.
    """

    _: KW_ONLY
    max_size: Size = 10 * 1024**2
    max_files: Annotated[int, Field(ge=1, le=100)] = 3
    driver: LogDriver | None = None
    options: dict[Argument, Argument] = field(default_factory=dict, repr=False)

    @property
    def max_bytes(self) -> int:
        """``max_size`` in bytes."""
        return cast("int", self.max_size)

    @model_validator(mode="after")
    def _options_have_a_driver(self) -> Self:
        if self.options and self.driver is None:
            raise ValueError("options are those of a log driver; name it with driver=")
        return self
