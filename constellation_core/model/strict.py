"""How every definition in the model is validated."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ConfigDict

STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True)
"""No unknown field, and no value in an error text: a value may be a secret."""


def _passable(value: str) -> str:
    if "\0" in value:
        raise ValueError("a zero byte cannot be passed to a program")
    return value


Argument = Annotated[str, AfterValidator(_passable)]
"""Text that the operating system can pass to a program, or take for a path."""
