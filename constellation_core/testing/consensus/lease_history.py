"""Whether a lease had one holder at a time, and whether its epochs fenced what was written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """A holder was sure that it holds the lease.

    Attributes:
        at: when, in true time.
        holder: who.
        epoch: with which.
    """

    at: float
    holder: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Write:
    """A write reached a sink that fences. ``accepted``: whether the sink took it."""

    at: float
    holder: str
    epoch: int
    accepted: bool


def violations(events: Iterable[Claim | Write]) -> list[str]:
    """What is wrong with the history of one lease, in words; empty when nothing is.

    Checked is: an epoch belongs to one holder; the time in which one was sure of the lease ends
    before that of the next begins, and epochs grow from one to the next; and after a write that
    was accepted, none with a lower epoch is.
    """
    claims, writes = [], []
    for event in sorted(events, key=lambda event: event.at):
        if isinstance(event, Claim):
            claims.append(event)
        else:
            writes.append(event)
    return [*_shared_epochs([*claims, *writes]), *_overlaps(claims), *_stale_writes(writes)]


def _shared_epochs(events: list[Claim | Write]) -> list[str]:
    holders: dict[int, set[str]] = {}
    for event in events:
        holders.setdefault(event.epoch, set()).add(event.holder)
    return [
        f"epoch {epoch} is that of {' and '.join(sorted(names))}"
        for epoch, names in sorted(holders.items())
        if len(names) > 1
    ]


def _overlaps(claims: list[Claim]) -> list[str]:
    """Sorted by time, the claims of one epoch must stand together, and epochs must grow."""
    wrong = []
    highest: Claim | None = None
    for claim in claims:
        if highest is not None and claim.epoch < highest.epoch:
            wrong.append(
                f"{claim.holder} was sure of epoch {claim.epoch} at {claim.at:.3f}, after "
                f"{highest.holder} was of epoch {highest.epoch} at {highest.at:.3f}"
            )
        if highest is None or claim.epoch > highest.epoch:
            highest = claim
    return wrong


def _stale_writes(writes: list[Write]) -> list[str]:
    wrong = []
    highest: Write | None = None
    for write in writes:
        if not write.accepted:
            continue
        if highest is not None and write.epoch < highest.epoch:
            wrong.append(
                f"a write of {write.holder} with epoch {write.epoch} was accepted at "
                f"{write.at:.3f}, after one with epoch {highest.epoch}"
            )
        if highest is None or write.epoch > highest.epoch:
            highest = write
    return wrong


class FencedSink:
    """What is written under a lease, and refuses what is older than what it has.

    Attributes:
        epoch: the highest that was written.
        events: all writes.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.events: list[Write] = []

    def write(self, at: float, holder: str, epoch: int) -> bool:
        """Write; whether it was accepted."""
        accepted = epoch >= self.epoch
        self.epoch = max(self.epoch, epoch)
        self.events.append(Write(at, holder, epoch, accepted))
        return accepted
