"""What is wrong with the settings, told so that it can be mended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from constellation_core.model.words import did_you_mean as did_you_mean
from constellation_core.model.words import nearest as nearest


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        message: what is wrong and how to mend it, without the place.
        source: the file as the user named it, or ``$VARIABLE``; ``""`` when neither is to blame.
        line: counted from 1; ``None`` for a variable, or when the whole file is meant.
        column: in characters, counted from 1; ``None`` where ``line`` is.
        key: dotted, for example ``gossip.bind``; ``""`` when no single key is meant.
        expected: what would be right, where one phrase can tell it.
        found: what is there, as it is written; never of a secret.
        table: the table that is meant or that the key stands in, such as ``plugins.dns``; by
            default the first part of the key.
        nearest: the known name that may have been meant.
    """

    message: str
    source: str = ""
    line: int | None = None
    column: int | None = None
    key: str = ""
    expected: str = ""
    found: str = ""
    nearest: str = ""
    table: str = ""

    def __str__(self) -> str:
        """One line: ``agent.toml:12: [gossip] bnid: unknown key; did you mean 'bind'?``."""
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        parts = (place, _in_words(self.key, self.table), self.message)
        return ": ".join(part for part in parts if part)


class ConfigError(Exception):
    """Settings that cannot be used, or could not be written.

    Attributes:
        problems: all that was found, not only the first; never empty.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        if not problems:
            raise ValueError("a ConfigError needs a problem")
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)

    @classmethod
    def of(cls, message: str, source: object = "", key: str = "") -> ConfigError:
        """An error with a single problem that has no line."""
        return cls([Problem(message, source=str(source), key=key)])


def _in_words(key: str, table: str) -> str:
    """``gossip.bind`` as ``[gossip] bind``, a table alone as ``[gossip]``."""
    table = table or key.partition(".")[0]
    return f"[{table}] {key[len(table) + 1 :]}".rstrip() if table else ""
