"""Who takes part in consensus, as gossip tells it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest

from constellation_core.agent.consensus.fleet import Fleet, Own
from constellation_core.agent.consensus.tags import encode
from constellation_core.consensus.interface import EngineStatus, Role, Voter
from constellation_core.consensus.voters.network import Part
from constellation_core.consensus.voters.status import Standing
from constellation_core.gossip import Gossip, Member, encode_tags
from constellation_core.model.node import NodeState

CLUSTER = str(UUID(int=99))
OTHER = str(UUID(int=98))


def uuid(number: int) -> str:
    return str(UUID(int=number))


class Clock:
    """A boot-time clock by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def boottime(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class World:
    """A membership by hand, seen by ``me``."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.local = Member("me", ("10.0.0.1", 7946), 1, NodeState.ALIVE, 0.0, encode_tags({}))
        self.others: dict[str, Member] = {}
        self.told_of_others = True
        self.own = Own(CLUSTER, None)
        gossip = SimpleNamespace(local=self.local, members=lambda: [self.local, *self.members()])
        self.fleet = Fleet(
            cast(Gossip, gossip), self.clock, lambda: self.told_of_others, lambda: self.own
        )

    def members(self) -> list[Member]:
        return [self.others[name] for name in sorted(self.others)]

    def put(
        self,
        name: str,
        number: int,
        *,
        state: NodeState = NodeState.ALIVE,
        part: Part = Part.VOTER,
        cluster: str | None = CLUSTER,
        term: int | None = None,
        region: str = "",
        born: str = "1",
        since: float | None = None,
        tag: str | None = None,
    ) -> None:
        address = f"10.0.0.{number}"
        standing = Standing(part, True, uuid(number), f"{address}:7947", cluster, 3, 1)
        text = encode(standing, term) if tag is None else tag
        tags = {"consensus": text, "region": region, "born": born}
        if since is None:
            since = asyncio.get_running_loop().time()
        self.others[name] = Member(name, (address, 7946), 1, state, since, encode_tags(tags))


async def test_candidates_are_those_who_say_so_and_their_age_is_counted_here() -> None:
    world = World()
    world.put("a", 2, since=asyncio.get_running_loop().time() - 50, region="eu")
    world.put("b", 3, tag="etcd")
    world.put("c", 4, tag="nonsense of some kind")
    candidates = world.fleet.candidates()
    assert [each.name for each in candidates] == ["a"]
    candidate = candidates[0]
    assert (candidate.region, candidate.address, candidate.alive) == ("eu", "10.0.0.2:7947", True)
    assert candidate.since == pytest.approx(950, abs=1)
    world.clock.now += 10
    # A suspect counts as alive, and nothing has changed.
    world.put("a", 2, state=NodeState.SUSPECT, region="eu")
    assert world.fleet.candidates()[0].since == pytest.approx(950, abs=1)
    world.clock.now += 10
    world.put("a", 2, state=NodeState.DEAD)
    assert not world.fleet.candidates()[0].alive
    assert world.fleet.candidates()[0].since == 1020


async def test_an_agent_that_has_restarted_is_as_good_as_new() -> None:
    world = World()
    world.put("a", 2, born="1", since=asyncio.get_running_loop().time() - 50)
    assert world.fleet.candidates()[0].since < 1000
    world.clock.now += 5
    world.put("a", 2, born="2")
    assert world.fleet.candidates()[0].since == 1005


async def test_who_is_told_of_others_has_to_meet_one_of_them() -> None:
    world = World()
    seen = [world.fleet.joined]
    for state in (NodeState.DEAD, NodeState.ALIVE, NodeState.DEAD):
        world.put("a", 2, state=state)
        seen.append(world.fleet.joined)
    # Once it has met somebody since its start, it has.
    assert seen == [False, False, True, True]


async def test_who_is_told_of_nobody_is_free_to_begin() -> None:
    world = World()
    world.told_of_others = False
    assert world.fleet.joined


async def test_nothing_is_founded_beside_another_backend() -> None:
    world = World()
    world.told_of_others = False
    world.put("a", 2, tag="etcd")
    assert world.fleet.elsewhere() == {"a": "etcd"}
    assert not world.fleet.joined


async def test_only_living_voters_of_the_same_cluster_are_asked() -> None:
    world = World()
    world.put("a", 2)
    world.put("b", 3, state=NodeState.DEAD)
    world.put("c", 4, part=Part.CANDIDATE)
    world.put("d", 5, part=Part.FAILED)
    world.put("e", 6, cluster=OTHER)
    assert world.fleet.voters() == [uuid(2)]
    world.own = Own(None, None)
    world.put("f", 7, cluster=None)
    assert world.fleet.voters() == []


async def test_the_own_voter_comes_first_then_those_of_the_region() -> None:
    world = World()
    world.put("a", 2, region="far")
    world.put("b", 3, region="far")
    world.put("c", 4)
    world.own = Own(CLUSTER, EngineStatus(Role.FOLLOWER, uuid(1)))
    order = world.fleet.voters()
    assert list(order[:2]) == [uuid(1), uuid(4)]
    assert set(order[2:]) == {uuid(2), uuid(3)}


async def test_the_latest_term_tells_who_leads_unless_the_own_voter_knows() -> None:
    world = World()
    world.put("a", 2, term=4)
    world.put("b", 3, term=5)
    world.put("c", 4, term=9, cluster=OTHER)
    assert world.fleet.leader() == uuid(3)
    world.put("b", 3, term=5, state=NodeState.DEAD)
    assert world.fleet.leader() == uuid(2)
    leader = Voter(uuid(7), "10.0.0.7:7947")
    world.own = Own(CLUSTER, EngineStatus(Role.FOLLOWER, uuid(1), leader=leader))
    assert world.fleet.leader() == uuid(7)


async def test_voters_are_found_by_their_ids() -> None:
    world = World()
    world.put("a", 2)
    world.put("b", 3, state=NodeState.DEAD)
    member = world.fleet.member(uuid(2))
    assert member is not None
    assert member.name == "a"
    assert world.fleet.member(uuid(3)) is None
    assert world.fleet.node_of(uuid(3)) == "b"
    assert world.fleet.node_of(uuid(9)) is None


async def test_nothing_is_founded_before_those_who_are_met_have_said_what_they_know() -> None:
    world = World()
    # An agent that starts is a member seconds before it can say that it knows a cluster.
    world.put("a", 2, tag="")
    assert world.fleet.candidates() == ()
    assert not world.fleet.joined
    world.put("a", 2)
    assert world.fleet.joined
    # One without consensus never says anything, and holds up nobody for long.
    world.put("b", 3, tag="")
    assert not world.fleet.joined
    world.clock.now += 31
    assert world.fleet.joined
