"""What a leader sees of the voters that somebody should look after, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from constellation_core.consensus.voters.seats import Seat, View, joiners, seats


def problems(view: View) -> tuple[str, ...]:
    """All of them; none while all is well."""
    taken = seats(view)
    able = joiners(view, taken)
    return (*_of_number(view, taken), *_of_seats(view, taken, bool(able)))


def _of_number(view: View, taken: tuple[Seat, ...]) -> Iterator[str]:
    size = len(taken)
    if size == 2:
        yield (
            "There are two voters, and neither can be spared: add an agent that votes on a third"
            " machine, however small"
        )
    elif size < view.me.wanted:
        willing = sum(each.alive and each.willing for each in (view.me, *view.others))
        yield (
            f"There {'is' if size == 1 else 'are'} {size} of {view.me.wanted} voters that are"
            f" wanted; {willing} of the agents that are alive may vote"
        )


def _of_seats(view: View, taken: tuple[Seat, ...], replaceable: bool) -> Iterator[str]:
    for seat in taken:
        where = f"{seat.name} ({seat.voter.address})"
        if seat.lost:
            yield (
                f"The voter of {where} is dead"
                + ("" if replaceable else ", and no other agent can take its place")
            )
        elif seat.unwilling and not replaceable:
            yield (
                f"{where} is not to vote any more, but no other agent can take its place: leave"
                " it running until one can"
            )
        elif not seat.answering and seat.agent is not None and seat.agent.alive:
            yield f"{where} is alive, but its voter does not answer"
    versions = {each.agent.operations for each in taken if each.agent is not None}
    if len(versions) > 1 and min(versions) == view.agreed:
        old = sorted(e.name for e in taken if e.agent and e.agent.operations == view.agreed)
        yield f"The code of {', '.join(old)} is older than that of the other voters"
