"""How every definition in the model is validated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, ConfigDict

STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True)
"""No unknown field, and no value in an error text: a value may be a secret."""


@dataclass(frozen=True, slots=True)
class Words:
    """Stands in an annotation: how the documentation names the type."""

    text: str


def matching(pattern: str, rule: str) -> AfterValidator:
    """Accepts text that matches ``pattern`` as a whole; refuses other text with ``rule``.

    The text itself is in no error: it may be a secret.
    """
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(rule)
        return value

    return AfterValidator(check)


def _passable(value: str) -> str:
    if "\0" in value:
        raise ValueError("a zero byte cannot be passed to a program")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a character (a lone surrogate); use whole text") from None
    return value


Argument = Annotated[str, AfterValidator(_passable)]
"""Text that the operating system can pass to a program, or take for a path."""

Variable = Annotated[
    str,
    matching(
        r"[A-Za-z_][A-Za-z0-9_]*",
        "the name of a variable is letters, digits and '_', and begins with no digit",
    ),
    Words("name of a variable"),
]
"""The name of an environment variable, as POSIX has them and a shell can use them."""
