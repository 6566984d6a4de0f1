"""Errors that a command ends with: one line, a hint, an exit code."""

from __future__ import annotations

FAILED = 1
USAGE = 2
UNREACHABLE = 3


class CliError(Exception):
    """A command cannot do what it was asked.

    Args:
        message: what is wrong.
        hint: what to do about it.
        exit_code: 1 failed, 2 wrong use or settings, 3 the agent cannot be reached.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = exit_code

    def rendered(self) -> str:
        """The text for standard error."""
        hint = f"hint: {self.hint}\n" if self.hint else ""
        return f"error: {self}\n{hint}"
