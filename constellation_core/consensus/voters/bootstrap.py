"""How an agent that knows of no cluster comes to one: what it sees goes in, one action comes out.

Agents cannot tell "I am first" from "I do not see the others yet". So nobody founds who has
met nobody although its settings name others, who sees somebody that knows a cluster, who does
not see as many agents as shall vote, or who saw any of that change a moment ago. And what is
founded must be promised by all founders (:mod:`.founding`), each of which refuses while it sees
other founders than the proposer does. What remains: parts of a fleet that start cut off from
each other, each with enough agents. Their clusters refuse each other when they meet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from constellation_core.consensus.voters.founding import Founder, founders
from constellation_core.consensus.voters.network import Candidate, Part


@dataclass(frozen=True, slots=True)
class View:
    """What an agent sees that knows of no cluster.

    Attributes:
        me: this agent.
        others: the other agents.
        joined: see :class:`~.network.Membership`.
        calm: seconds since anything of that last changed.
        settle: seconds for which nothing may have changed.
    """

    me: Candidate
    others: tuple[Candidate, ...]
    joined: bool
    calm: float
    settle: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing; the reason is a sentence for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """There is a cluster: know it, and never found another."""

    cluster: str


@dataclass(frozen=True, slots=True)
class Found:
    """Propose to found a cluster with these; this agent is the first."""

    founders: tuple[Founder, ...]


Action: TypeAlias = Wait | Adopt | Found


def decide(view: View) -> Action:
    """What to do now."""
    # The dead count as well, but not against the living.
    known = [each for each in view.others if each.cluster is not None]
    clusters = {each.cluster for each in ([e for e in known if e.alive] or known)}
    if len(clusters) > 1:
        return Wait("two clusters meet here; this agent belongs to neither")
    for cluster in clusters:
        if cluster is not None:
            return Adopt(cluster)
    if not view.me.willing:
        return Wait("waiting for others to found a cluster: this agent does not vote")
    if not view.joined:
        return Wait("waiting to meet another agent: the settings name some")
    alive = sorted((e for e in view.others if e.alive), key=lambda each: each.name)
    for each in alive:
        if each.part is Part.FAILED:
            return Wait(f"waiting for {each.name}, which cannot use or read the data that it holds")
        if each.part is Part.VOTER:
            return Wait(f"waiting for the cluster that {each.name} has founded to come to life")
    if view.me.part is not Part.CANDIDATE:
        return Wait("this agent cannot vote at the moment")
    chosen = who_founds(view.me, view.others)
    if len(chosen) < view.me.wanted:
        return Wait(
            f"waiting for more agents to found a cluster: {len(chosen)} of {view.me.wanted} that"
            f" vote, and want {view.me.wanted} voters, are here"
        )
    if chosen[0].name != view.me.name:
        return Wait(f"waiting for {chosen[0].name} to found the cluster")
    alone = not view.others and view.me.wanted == 1
    if view.calm < view.settle and not alone:
        return Wait("waiting until no more agents appear, to found a cluster")
    return Found(chosen)


def who_founds(me: Candidate, others: Iterable[Candidate]) -> tuple[Founder, ...]:
    """Those who would found a cluster, as this agent sees it; too few while too few are here."""
    ready = [
        each
        for each in (me, *others)
        if each.alive
        and each.willing
        and each.part is Part.CANDIDATE
        and each.cluster is None
        and each.wanted == me.wanted
    ]
    return founders(ready)[: me.wanted]
