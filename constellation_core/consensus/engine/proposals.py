"""What is asked of a replica, and how it answers: callbacks that cannot fail into the library."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from constellation_core.consensus.engine.commands import Change
from constellation_core.consensus.engine.library import SUCCESS
from constellation_core.consensus.interface import (
    ApplyFailed,
    ConsensusError,
    Unavailable,
    Unknown,
)

# Beside the library's reasons: nobody will learn what became of it.
_GIVEN_UP = -1

_log = logging.getLogger(__name__)

Answer: TypeAlias = bytes | int | ConsensusError
"""The state machine's result, the index of a no-op, or what is to be raised."""


@dataclass(frozen=True, slots=True)
class Failed:
    """In place of a result: the state machine raised."""

    reason: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """Something that is to be put into the log.

    Attributes:
        command: as it stands in the log.
        answer: called once, on the engine's thread.
        change: the change of the voters that ``command`` is.
    """

    command: bytes
    answer: Callable[[Answer], None]
    change: Change | None = None

    def settle(self, answer: Answer) -> None:
        """Answer; whatever the callback raises stays here."""
        try:
            self.answer(answer)
        except Exception:  # noqa: BLE001 - it would go through the library's apply loop
            _log.exception("a callback failed")

    def applied(self, result: Any, reason: int) -> None:
        """What the library calls when the proposal's place in the log was applied."""
        if reason == _GIVEN_UP:
            self.settle(Unknown(str(result)))
        elif reason != SUCCESS:
            self.settle(Unavailable("another leader's entry took its place"))
        elif isinstance(result, Failed):
            self.settle(ApplyFailed(result.reason))
        else:
            self.settle(result)


def give_up(waiting: Iterable[Callable[[Any, int], None]], reason: str) -> None:
    """Tell those whose entry may be applied, now or later, that they will not learn it here."""
    for applied in waiting:
        applied(reason, _GIVEN_UP)
