"""Whether a history of concurrent operations can be explained one operation after the other.

The search of Wing and Gong ("Testing and Proving Concurrent Objects", 1993) with the
memoisation of Lowe ("Testing for Linearizability", 2017), as Porcupine does it: an operation may
come next if none that must be explained returned before it was called; what was tried, the set of
explained operations and the state they lead to, is not tried again. An operation of unknown
outcome may come at any time after its call, or never.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

NEVER = math.inf


class Kind(StrEnum):
    """What was asked of a key."""

    GET = "get"
    PUT = "put"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Observation:
    """What a client was told.

    Attributes:
        revision: of a read, the entry's (0: there is none); of a write that was done, the new
            one; of one that was not done, the entry's that was in its way. ``None`` where the
            client was not told, as of a delete.
        value: of a read.
        done: whether a write was done.
    """

    revision: int | None = None
    value: bytes | None = None
    done: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """An operation of a client on one key.

    Attributes:
        client: who called.
        key: of what.
        kind: what for.
        called: when; any clock that all clients share.
        returned: when; :data:`NEVER` when the outcome is unknown.
        value: what was to be written.
        expected: the revision that a conditional write names; ``None``: in any case.
        observed: what the client was told; ``None`` when the outcome is unknown.
    """

    client: str
    key: str
    kind: Kind
    called: float
    returned: float
    value: bytes | None = None
    expected: int | None = None
    observed: Observation | None = None


@dataclass(frozen=True, slots=True)
class State:
    """A key's state. ``revision`` is ``None`` while no client was told it."""

    value: bytes | None = None
    revision: int | None = 0


@dataclass(frozen=True, slots=True)
class Violation:
    """A key's history that cannot be explained.

    Attributes:
        key: the key.
        explained: the longest beginning that can be, in that order.
        rest: what is left of the history, by the time of the call.
    """

    key: str
    explained: tuple[Call, ...]
    rest: tuple[Call, ...]

    def __str__(self) -> str:
        last = "\n  ".join(map(str, self.explained[-5:]))
        rest = "\n  ".join(map(str, self.rest[:10]))
        return f"{self.key} is not linearizable after\n  {last}\nnone of these fits:\n  {rest}"


Step: TypeAlias = Callable[[State, Call], Iterable[State]]


def check(history: Iterable[Call]) -> Violation | None:
    """The first key whose history cannot be explained, if there is one."""
    by_key: dict[str, list[Call]] = {}
    for call in history:
        by_key.setdefault(call.key, []).append(call)
    for key in sorted(by_key):
        violation = check_key(by_key[key])
        if violation is not None:
            return violation
    return None


def step(state: State, call: Call) -> Iterable[State]:
    """The states that ``call`` may lead to and that agree with what its client was told."""
    if call.kind is Kind.GET:
        return _read(state, call)
    outcomes = []
    if _may_match(state, call.expected):
        outcomes += _written(state, call)
    if call.expected is not None and state.revision != call.expected:
        outcomes += _refused(state, call)
    return outcomes


def check_key(history: Sequence[Call], step: Step = step) -> Violation | None:
    """:func:`check` for the calls of one key."""
    search = _Search(sorted(history, key=lambda call: call.called), step)
    return search.run()


def _read(state: State, call: Call) -> list[State]:
    seen = call.observed
    if seen is None:
        return [state]
    if seen.value != state.value or state.revision not in (None, seen.revision):
        return []
    return [State(seen.value, seen.revision)]


def _may_match(state: State, expected: int | None) -> bool:
    if expected is None or state.revision == expected:
        return True
    # An entry whose revision nobody was told may have any, but an entry it is.
    return state.revision is None and expected != 0


def _written(state: State, call: Call) -> list[State]:
    seen = call.observed
    if seen is not None and not seen.done:
        return []
    if call.kind is Kind.DELETE:
        return [State()]
    revision = None if seen is None else seen.revision
    if revision is not None and state.revision is not None and revision <= state.revision:
        return []
    return [State(call.value, revision)]


def _refused(state: State, call: Call) -> list[State]:
    seen = call.observed
    if seen is None:
        return [state]
    if seen.done or seen.revision == call.expected or state.revision not in (None, seen.revision):
        return []
    if state.revision is None and seen.revision == 0:
        return []
    return [State(state.value, seen.revision)]


class _Search:
    def __init__(self, calls: list[Call], step: Step) -> None:
        self._calls = calls
        self._step = step
        self._must = sum(1 << i for i, call in enumerate(calls) if call.returned != NEVER)

    def run(self) -> Violation | None:
        # A path is a chain of (call, path before it), so that nodes share what they have in common.
        stack: list[tuple[int, State, int, object]] = [(0, State(), 0, None)]
        seen: set[tuple[int, State]] = set()
        longest: tuple[int, object] = (0, None)
        while stack:
            done, state, first, path = stack.pop()
            if done & self._must == self._must:
                return None
            if done.bit_count() > longest[0]:
                longest = (done.bit_count(), path)
            for number in reversed(self._candidates(done, first)):
                for after in self._step(state, self._calls[number]):
                    explained = done | 1 << number
                    if (explained, after) not in seen:
                        seen.add((explained, after))
                        beyond = first
                        while explained >> beyond & 1:
                            beyond += 1
                        stack.append((explained, after, beyond, (number, path)))
        return self._violation(longest[1])

    def _candidates(self, done: int, first: int) -> list[int]:
        """Calls that may come next: nobody returned before they were called."""
        earliest = NEVER
        found = []
        for number in range(first, len(self._calls)):
            call = self._calls[number]
            if call.called > earliest:
                break
            if not done >> number & 1:
                found.append(number)
                earliest = min(earliest, call.returned)
        return [number for number in found if self._calls[number].called <= earliest]

    def _violation(self, path: object) -> Violation:
        order: list[int] = []
        while isinstance(path, tuple):
            number, path = path
            order.append(number)
        explained = tuple(self._calls[number] for number in reversed(order))
        rest = tuple(call for number, call in enumerate(self._calls) if number not in set(order))
        return Violation(self._calls[0].key, explained, rest)
