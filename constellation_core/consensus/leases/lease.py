"""A lease in the hands of its holder."""

from __future__ import annotations

from collections.abc import Callable

from constellation_core.consensus.interface import ConsensusError


class LeaseLost(ConsensusError):  # noqa: N818 - as the outcomes in ..interface
    """The lease is not held any more, or that is no longer certain: stop what it was for.

    Attributes:
        name: the lease.
        epoch: with which it was held.
        reason: why, in words.
    """

    def __init__(self, name: str, epoch: int, reason: str) -> None:
        super().__init__(f"lease {name} (epoch {epoch}): {reason}")
        self.name = name
        self.epoch = epoch
        self.reason = reason


class Tenure:
    """From a grant to its end. May be used on any thread; what is over stays over.

    Args:
        name: the lease.
        epoch: with which it is held.
        deadline: boot-time seconds at which trust in it ends.
        boottime: the clock.
    """

    def __init__(
        self, name: str, epoch: int, deadline: float, boottime: Callable[[], float]
    ) -> None:
        self.name = name
        self.epoch = epoch
        self._deadline = deadline
        self._boottime = boottime
        self._reason: str | None = None

    def left(self) -> float:
        """Seconds that it can be trusted; 0 when it is over."""
        left = self._deadline - self._boottime()
        if left <= 0:
            self.end("not renewed in time")
        return 0.0 if self._reason is not None else left

    def reason(self) -> str | None:
        """Why it is over, or ``None`` while it is not."""
        self.left()
        return self._reason

    def extend(self, deadline: float) -> None:
        """Trust it until ``deadline``, unless it is over already."""
        if self.left() > 0:
            self._deadline = max(self._deadline, deadline)

    def end(self, reason: str) -> None:
        """It is over; the first reason counts."""
        if self._reason is None:
            self._reason = reason

    def lost(self) -> LeaseLost:
        """The error for who wants to use it although it is over."""
        return LeaseLost(self.name, self.epoch, self.reason() or "not lost")


class Lease:
    """What ``async with leases.hold(name) as lease`` gives. Dead when the block is over.

    May be used on any thread.
    """

    def __init__(self, tenure: Tenure) -> None:
        self._tenure = tenure

    def __repr__(self) -> str:
        reason = self._tenure.reason()
        state = "held" if reason is None else reason
        return f"<Lease {self._tenure.name} epoch={self._tenure.epoch}: {state}>"

    @property
    def name(self) -> str:
        """What it is for."""
        return self._tenure.name

    @property
    def epoch(self) -> int:
        """The number that fences: higher than all that were given before, for any lease.

        Send it along with everything that is written under the lease.

        Raises:
            LeaseLost: as :meth:`check`.
        """
        self.check()
        return self._tenure.epoch

    @property
    def remaining(self) -> float:
        """Seconds that it can be trusted without another renewal; 0 when it is lost."""
        return self._tenure.left()

    def check(self, needed: float = 0.0) -> None:
        """To be called right before each side effect.

        Args:
            needed: seconds that the side effect takes at most.

        Raises:
            LeaseLost: it is not held any more, or not for ``needed`` seconds for certain, or the
                block is over.
        """
        left = self._tenure.left()
        if left <= 0:
            raise self._tenure.lost()
        if left <= needed:
            raise LeaseLost(
                self._tenure.name, self._tenure.epoch, f"held for {left:.1f} s more only"
            )
