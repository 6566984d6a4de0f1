"""What ``constellation verify`` looks at of consensus."""

from __future__ import annotations

import time
from collections.abc import Callable

from constellation_core.agent.consensus.raft import RaftConsensus
from constellation_core.consensus.backend import ConsensusBackend
from constellation_core.consensus.clock import SystemBootClock
from constellation_core.verify import VerifyCheck, VerifyResult

_SOON = 60.0
"""Seconds that a clock has to be watched before its rate says anything."""

_MOST_DRIFT = 0.01
"""By so much the rate of the clock may differ from the hardware's; leases bear ten times that."""

_GONE = ("dead", "left", "unknown")

_MEND = "mend what it says; the agent tries again by itself"

_WITNESS = (
    "run an agent on a third machine, however small; one without plugins is enough "
    "(docs/operations.md)"
)


class ClockRates:
    """Compares the clock that leases are counted by with the hardware's, since it was made.

    Args:
        boottime: the clock of leases.
        awake: one that stands still while the machine sleeps.
        raw: the hardware's, which nothing adjusts; stands still as ``awake`` does.
    """

    def __init__(
        self,
        boottime: Callable[[], float] | None = None,
        awake: Callable[[], float] = time.monotonic,
        raw: Callable[[], float] | None = None,
    ) -> None:
        self._clocks = (boottime or SystemBootClock().boottime, awake, raw or _raw)
        self._began = self._now()

    def _now(self) -> tuple[float, ...]:
        return tuple(clock() for clock in self._clocks)

    def look(self) -> tuple[float, float, float]:
        """Seconds watched, by how much the rate is off (a share), and seconds slept."""
        boot, awake, raw = (
            now - began for now, began in zip(self._now(), self._began, strict=True)
        )
        return raw, (awake - raw) / raw if raw > 0 else 0.0, max(0.0, boot - awake)


def _raw() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC))


def consensus_checks(
    backend: Callable[[], ConsensusBackend], rates: ClockRates
) -> list[VerifyCheck]:
    """The checks, over what keeps consensus when they run."""
    return [
        VerifyCheck("consensus.quorum", lambda: _quorum(backend())),
        VerifyCheck("consensus.voters", lambda: _voters(backend())),
        VerifyCheck("consensus.cluster", lambda: _cluster(backend())),
        VerifyCheck("consensus.clock", lambda: _clock(rates)),
    ]


async def _quorum(backend: ConsensusBackend) -> VerifyResult:
    said = backend.describe()
    problems = "; ".join(said["problems"])
    if said["available"]:
        leader = f", led by {said['leader']}" if said["leader"] is not None else ""
        return VerifyResult("ok", f"{said['backend']} can be used{leader}")
    own = backend.standing if isinstance(backend, RaftConsensus) else None
    if own is not None and own.cluster is None and own.problems:
        return VerifyResult("warn", problems, _MEND)
    if isinstance(backend, RaftConsensus) and said["cluster"] is None:
        wanted = said["wanted"]
        return VerifyResult(
            "warn",
            problems,
            f"start agents that vote until there are {wanted}; for a single host, or two without "
            "a witness: [consensus] voters = 1",
        )
    if isinstance(backend, RaftConsensus):
        return VerifyResult(
            "fail",
            f"nothing can be leased or stored: {problems}",
            "start the voters that are missing; only if most are gone for good, see "
            '"Most voters are gone for good" in docs/operations.md',
        )
    return VerifyResult(
        "warn" if said["backend"] is None else "fail", problems, "see what it says, and the log"
    )


async def _voters(backend: ConsensusBackend) -> VerifyResult:
    if not isinstance(backend, RaftConsensus):
        return VerifyResult("skip", "this node does not use the built-in voters")
    said = backend.describe()
    voters, wanted = said["voters"], said["wanted"]
    if said["part"] == "failed":
        standing = backend.standing
        problems = "; ".join(standing.problems) if standing is not None else ""
        return VerifyResult("fail", problems, _MEND)
    differing = sorted(
        member.name
        for member, told in backend.fleet.told()
        if member.online and told.wanted != wanted
    )
    if differing:
        return VerifyResult(
            "warn",
            f"{', '.join(differing)} want another number of voters than this node's {wanted}",
            "set [consensus] voters alike on all nodes",
        )
    if said["cluster"] is None:
        return VerifyResult("skip", "there are no voters yet")
    if not voters:
        return VerifyResult(
            "warn", "this node has not heard of any voter since it started", "start the voters"
        )
    names = ", ".join(row["node"] or f"voter {row['id'][:8]}" for row in voters)
    if len(voters) == 2:
        return VerifyResult(
            "warn", f"two voters ({names}) protect nothing: neither can be spared", _WITNESS
        )
    gone = [row["node"] or f"voter {row['id'][:8]}" for row in voters if row["state"] in _GONE]
    if gone:
        return VerifyResult(
            "warn",
            f"voters that are not alive: {', '.join(gone)}",
            "start them again; who is dead for [consensus] replace_after is replaced, if most "
            "voters are alive and another agent may vote",
        )
    if len(voters) < wanted:
        # What an agent that does not lead is doing, is nothing about the number of the voters.
        doing = said["doing"] if said.get("role") == "leader" else "the leader adds more"
        return VerifyResult(
            "warn",
            f"{len(voters)} of {wanted} voters: {names}; {doing}",
            f"start more agents that vote, until there are {wanted}; if there are, wait",
        )
    if said["problems"]:
        return VerifyResult("warn", "; ".join(said["problems"]), "mend what it says")
    lone = " (nothing is left when it is lost)" if len(voters) == 1 else ""
    return VerifyResult("ok", f"{len(voters)} voters: {names}{lone}")


async def _cluster(backend: ConsensusBackend) -> VerifyResult:
    if not isinstance(backend, RaftConsensus):
        return VerifyResult("skip", "this node does not use the built-in voters")
    elsewhere = backend.fleet.elsewhere()
    if elsewhere:
        words = ", ".join(f"{name} ({other})" for name, other in sorted(elsewhere.items()))
        return VerifyResult(
            "fail", f"other nodes keep consensus elsewhere: {words}", "use the same on all nodes"
        )
    standing = backend.standing
    mine = standing.cluster if standing is not None else None
    foreign: dict[str, list[str]] = {}
    for member, told in backend.fleet.told():
        if member.online and told.cluster is not None and told.cluster != mine:
            foreign.setdefault(told.cluster, []).append(member.name)
    if mine is not None and foreign:
        words = "; ".join(f"{cluster}: {', '.join(names)}" for cluster, names in foreign.items())
        return VerifyResult(
            "fail",
            f"nodes belong to another cluster than this one's {mine}: {words}",
            "if one was recovered or restored, move the old voter's data away where status says "
            "so; else decide for one, and clear data_dir/consensus on the nodes of the other "
            "(docs/operations.md)",
        )
    if mine is None:
        return VerifyResult("skip", "this node belongs to no cluster yet")
    return VerifyResult("ok", f"all that are alive belong to {mine}")


async def _clock(rates: ClockRates) -> VerifyResult:
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return VerifyResult(
            "warn",
            "this system has no clock that counts while it sleeps",
            "do not let it sleep while it holds leases",
        )
    watched, off, slept = rates.look()
    if watched < _SOON:
        return VerifyResult("skip", f"watched for {watched:.0f} s only")
    if abs(off) > _MOST_DRIFT:
        return VerifyResult(
            "fail",
            f"the clock that leases are counted by runs {100 * off:+.1f} % against the hardware's",
            "find out what adjusts it (NTP, the hypervisor)",
        )
    if slept > 1:
        return VerifyResult(
            "warn",
            f"this machine slept for {slept:.0f} s since the agent began; leases were lost then",
            "keep it awake",
        )
    return VerifyResult("ok", f"{100 * off:+.3f} % against the hardware's, in {watched:.0f} s")
