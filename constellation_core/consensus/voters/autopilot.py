"""How the voters are kept whole: what the leader sees goes in, one action comes out.

There are to be as many voters as the settings say, an odd number, on different agents that live,
in as many regions as possible. Every action is safe by itself: while it is carried out, and after
it, the voters that answer now are a majority, whoever else does not. The one exception is the
step from one voter to two, which cannot be so: it is done only if a third is there to follow, or
to move the only voter to another agent.

A dead voter takes nothing away but one failure that could be borne. So there is no hurry, and
it is removed only where that helps: because another takes its place, or because their number is
even, which bears no more failures than one voter less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from constellation_core.consensus.voters.network import Candidate, Part
from constellation_core.consensus.voters.seats import (
    Seat,
    View,
    crowds,
    goal,
    joiners,
    majority,
    seats,
)

_MOST = 7
"""Voters at most, also for a moment."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Do nothing; the reason is a sentence for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Add:
    """Make an agent a voter."""

    agent: Candidate


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a voter."""

    seat: Seat
    reason: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """Have another voter lead, because this one is to go; it then removes this one."""

    to: Seat


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Tell an agent that its voter is none (any more)."""

    agent: Candidate


@dataclass(frozen=True, slots=True)
class Raise:
    """Allow operations up to a version, which every voter knows."""

    version: int


Action: TypeAlias = Rest | Add | Remove | HandOver | Dismiss | Raise


def decide(view: View) -> Action:
    """What the leader does now."""
    taken = seats(view)
    able = joiners(view, taken)
    if view.status.change_pending:
        return Rest("a change of the voters is on its way")
    if sum(each.answering for each in taken) < majority(len(taken)):
        return Rest("most voters do not answer")
    return (
        _dismiss(view, taken)
        or _raise(view, taken)
        or _replace(view, taken, able)
        or _grow(view, taken, able)
        or _shrink(view, taken)
        or _release(view, taken)
        or Rest(_rest(view, taken))
    )


def _dismiss(view: View, taken: tuple[Seat, ...]) -> Action | None:
    voters = {each.voter.id for each in taken}
    for each in view.others:
        holds = each.part in (Part.VOTER, Part.FAILED) and each.cluster == view.me.cluster
        if each.alive and holds and each.id not in voters and each.id not in view.told:
            return Dismiss(each)
    return None


def _raise(view: View, taken: tuple[Seat, ...]) -> Action | None:
    known = [each.agent.operations if each.agent and each.agent.alive else 0 for each in taken]
    return Raise(min(known)) if min(known) > view.agreed else None


def _replace(view: View, taken: tuple[Seat, ...], able: tuple[Candidate, ...]) -> Action | None:
    even = len(taken) % 2 == 0
    for seat in sorted(taken, key=lambda each: (not each.lost, each.name)):
        if seat.good or not (even or able or seat.returns):
            continue
        # The new one comes before the old one goes, unless the majority would then depend on it.
        joiner = _addable(taken, able)
        if not even and joiner is not None:
            return Add(joiner)
        if seat.mine:
            heir = _heir(taken)
            if heir is not None:
                return HandOver(heir)
        elif _removable(seat, taken) and view.removals < _budget(view, taken):
            return Remove(seat, "it is dead" if seat.lost else "it does not vote any more")
    return None


def _grow(view: View, taken: tuple[Seat, ...], able: tuple[Candidate, ...]) -> Action | None:
    if len(taken) < goal(view, taken, able):
        joiner = _addable(taken, able)
        if joiner is not None:
            return Add(joiner)
    return None


def _shrink(view: View, taken: tuple[Seat, ...]) -> Action | None:
    # Who leads next may have other settings: in an hour somebody can notice.
    if len(taken) <= view.me.wanted or view.removals >= _budget(view, taken):
        return None
    crowd = crowds(each.agent for each in taken)
    leaving = sorted(
        (each for each in taken if not each.mine and _removable(each, taken)),
        key=lambda each: (each.good, -crowd[each.agent.region] if each.agent else 0, each.name),
    )
    return Remove(leaving[0], "there are more voters than wanted") if leaving else None


def _release(view: View, taken: tuple[Seat, ...]) -> Action | None:
    """Who was made ready to be added, and is not needed, need not run an engine."""
    voters = {each.voter.id for each in taken}
    spared = voters | view.told | view.deferred
    for each in view.others:
        ready = each.alive and each.part is Part.JOINING and each.cluster == view.me.cluster
        if ready and each.id not in spared:
            return Dismiss(each)
    return None


def _addable(taken: tuple[Seat, ...], able: tuple[Candidate, ...]) -> Candidate | None:
    """Who can be added so that the voters that answer now still are a majority without it."""
    size = len(taken) + 1
    answering = sum(each.answering for each in taken)
    if size > _MOST or (size > 2 and answering < majority(size)):
        return None
    addresses = {each.voter.address for each in taken}
    return next((each for each in able if each.address not in addresses), None)


def _removable(seat: Seat, taken: tuple[Seat, ...]) -> bool:
    """Whether the voters that answer now are a majority without it."""
    answering = sum(each.answering for each in taken if each is not seat)
    return answering >= majority(len(taken) - 1)


def _budget(view: View, taken: tuple[Seat, ...]) -> int:
    """How many voters may be removed in a while: a minority, or one."""
    return max(1, (max(len(taken), view.me.wanted) - 1) // 2)


def _heir(taken: tuple[Seat, ...]) -> Seat | None:
    able = [each for each in taken if each.answering and each.good and not each.mine]
    return min(able, key=lambda each: each.name, default=None)


def _rest(view: View, taken: tuple[Seat, ...]) -> str:
    if len(taken) < view.me.wanted:
        return (
            f"{len(taken)} of {view.me.wanted} voters: not enough other agents that could vote"
            f" have been alive for {view.times.stable:g} seconds"
        )
    if len(taken) > view.me.wanted:
        return f"{len(taken)} voters, {view.me.wanted} wanted: one has to wait to be removed" + (
            f", for no more than {_budget(view, taken)} may be removed within"
            f" {view.times.removals / 60:g} minutes"
            if view.removals >= _budget(view, taken)
            else ""
        )
    if not all(each.good for each in taken):
        return "a voter should be replaced, but nobody can take its place, or not yet"
    silent = sorted(each.name for each in taken if not each.answering)
    if silent:
        return (
            f"waiting for {', '.join(silent)}: a voter that is dead for {view.times.dead:g} seconds"
            " is replaced"
        )
    return "all is well"
