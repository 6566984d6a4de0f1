"""What an agent says of the built-in consensus, and what ``verify`` makes of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from constellation_core.agent.consensus.checks import ClockRates, consensus_checks
from constellation_core.agent.consensus.raft import RaftConsensus, RaftSettings
from constellation_core.agent.consensus.tags import encode
from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.interface import EngineStatus, Role, Voter
from constellation_core.consensus.voters.network import Part
from constellation_core.consensus.voters.settings import VoterTimes
from constellation_core.consensus.voters.status import Standing
from constellation_core.gossip import Gossip, Member, encode_tags
from constellation_core.model.node import NodeState
from constellation_core.verify import VerifyResult

CLUSTER, OTHER = str(UUID(int=99)), str(UUID(int=98))


def uuid(number: int) -> str:
    return str(UUID(int=number))


def voter(number: int) -> Voter:
    return Voter(uuid(number), f"10.0.0.{number}:7947")


def standing(number: int, part: Part, cluster: str | None, wanted: int = 3) -> Standing:
    return Standing(part, True, uuid(number), f"10.0.0.{number}:7947", cluster, wanted, 1)


class World:
    """An agent ``a``, number 1, and what it sees."""

    def __init__(self, tmp_path: Path, wanted: int = 3) -> None:
        local = Member("a", ("10.0.0.1", 7946), 1, NodeState.ALIVE, 0.0, encode_tags({}))
        self.members = [local]
        gossip = SimpleNamespace(local=local, members=lambda: self.members, streams=None)
        self.raft = RaftConsensus(
            RaftSettings(tmp_path, ("127.0.0.1", 7947), bytes(32), "", wanted, True, VoterTimes()),
            cast(Gossip, gossip),
            SystemBootClock(),
            lambda: "10.0.0.1:7947",
            cast(Any, None),
            lambda: True,
            lambda _: None,
        )

    def me(self, said: Standing, status: EngineStatus | None = None) -> None:
        running = SimpleNamespace(status=status) if status is not None else None
        self.raft._lifecycle = cast(Any, SimpleNamespace(standing=said, voter=running))

    def other(
        self,
        name: str,
        number: int,
        part: Part = Part.VOTER,
        *,
        cluster: str | None = CLUSTER,
        term: int | None = None,
        wanted: int = 3,
        state: NodeState = NodeState.ALIVE,
        tag: str | None = None,
    ) -> None:
        text = encode(standing(number, part, cluster, wanted), term) if tag is None else tag
        meta = encode_tags({"consensus": text})
        self.members.append(Member(name, (f"10.0.0.{number}", 7946), 1, state, 0.0, meta))

    async def check(self, name: str) -> VerifyResult:
        checks = consensus_checks(lambda: self.raft, ClockRates())
        return await {each.name: each for each in checks}[name].run()


def leading(*numbers: int, term: int = 4) -> EngineStatus:
    voters = tuple(voter(number) for number in numbers)
    others = [each.id for each in voters if each.id != uuid(1)]
    return EngineStatus(
        Role.LEADER,
        uuid(1),
        leader=voter(1),
        term=term,
        last_index=9,
        commit_index=9,
        voters=voters,
        match=tuple((each, 9) for each in others),
        heard=tuple((each, 0.21) for each in others),
    )


async def test_before_anything_has_begun(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.raft.describe()["problems"] == ["consensus begins just now"]
    world.me(standing(1, Part.CANDIDATE, None))
    world.other("b", 2, Part.CANDIDATE, cluster=None)
    said = world.raft.describe()
    assert (said["available"], said["leader"], said["voters"]) == (False, None, [])
    assert (await world.check("consensus.quorum")).status == "warn"
    assert (await world.check("consensus.voters")).status == "skip"
    assert (await world.check("consensus.cluster")).status == "skip"


async def test_a_leader_knows_how_far_the_others_are(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.me(standing(1, Part.VOTER, CLUSTER), leading(1, 2, 3))
    world.other("b", 2)
    world.other("c", 3)
    said = world.raft.describe()
    assert (said["leader"], said["role"], said["term"]) == ("a", "leader", 4)
    assert [(row["node"], row["leader"], row["match"]) for row in said["voters"]] == [
        ("a", True, None),
        ("b", False, 9),
        ("c", False, 9),
    ]
    assert said["voters"][1]["silent"] == 0.2
    for name in ("consensus.quorum", "consensus.voters", "consensus.cluster"):
        assert (await world.check(name)).status == "ok"


async def test_who_does_not_vote_goes_by_what_the_others_say(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.me(standing(1, Part.CANDIDATE, CLUSTER))
    world.other("b", 2, term=4)
    world.other("c", 3)
    world.other("d", 4, cluster=OTHER)
    said = world.raft.describe()
    assert (said["available"], said["leader"], said["part"]) == (True, "b", "candidate")
    assert [row["node"] for row in said["voters"]] == ["b", "c"]
    assert "role" not in said


async def test_two_voters_protect_nothing_and_the_witness_is_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.me(standing(1, Part.VOTER, CLUSTER), leading(1, 2))
    world.other("b", 2)
    result = await world.check("consensus.voters")
    assert result.status == "warn"
    assert "protect nothing" in result.detail
    assert "third machine" in result.remedy
    assert any("neither can be spared" in each for each in world.raft.describe()["problems"])


async def test_fewer_voters_than_wanted(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.me(standing(1, Part.VOTER, CLUSTER), leading(1))
    result = await world.check("consensus.voters")
    assert (result.status, "1 of 3" in result.detail) == ("warn", True)
    outside = World(tmp_path)
    outside.me(replace(standing(1, Part.NONE, CLUSTER), doing="not voting"))
    assert "not heard of any voter" in (await outside.check("consensus.voters")).detail
    outside.other("b", 2, term=4)
    result = await outside.check("consensus.voters")
    assert (result.status, result.detail) == ("warn", "1 of 3 voters: b; the leader adds more")
    lone = World(tmp_path, wanted=1)
    lone.me(standing(1, Part.VOTER, CLUSTER, wanted=1), leading(1))
    result = await lone.check("consensus.voters")
    assert (result.status, "when it is lost" in result.detail) == ("ok", True)


async def test_voters_that_are_gone_and_nodes_that_want_another_number(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.me(standing(1, Part.VOTER, CLUSTER), leading(1, 2, 3))
    world.other("b", 2, state=NodeState.DEAD)
    world.other("c", 3)
    result = await world.check("consensus.voters")
    assert (result.status, result.detail) == ("warn", "voters that are not alive: b")
    assert "start them again" in result.remedy
    world.other("d", 4, Part.CANDIDATE, wanted=5)
    result = await world.check("consensus.voters")
    assert (result.status, result.detail.startswith("d want another")) == ("warn", True)


async def test_no_leader_is_a_failure_that_points_to_the_procedure(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.me(standing(1, Part.CANDIDATE, CLUSTER))
    world.other("b", 2)
    world.other("c", 3, state=NodeState.DEAD, term=4)
    result = await world.check("consensus.quorum")
    assert result.status == "fail"
    assert "1 of 2 known voters are alive" in result.detail
    heading = re.search('"(.+)" in docs/operations.md', result.remedy)
    assert heading
    operations = Path(__file__).parents[3] / "docs" / "operations.md"
    assert f"\n## {heading[1]}\n" in operations.read_text()


async def test_what_keeps_this_agent_from_beginning_is_to_be_mended(tmp_path: Path) -> None:
    world = World(tmp_path, wanted=1)
    address = "10.0.0.1:7947"
    world.me(Standing(Part.NONE, True, None, address, None, 1, 1, problems=("port in use",)))
    result = await world.check("consensus.quorum")
    assert (result.status, "port in use" in result.detail) == ("warn", True)
    assert result.remedy.startswith("mend what it says")


async def test_a_voter_that_failed(tmp_path: Path) -> None:
    world = World(tmp_path)
    failed = Standing(
        Part.FAILED, True, uuid(1), "10.0.0.1:7947", CLUSTER, 3, 1, problems=("disk full",)
    )
    world.me(failed)
    world.other("b", 2, term=4)
    result = await world.check("consensus.voters")
    assert (result.status, result.detail) == ("fail", "disk full")


async def test_two_clusters_and_two_backends_are_failures(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.me(standing(1, Part.VOTER, CLUSTER), leading(1, 2, 3))
    world.other("b", 2)
    world.other("c", 3)
    world.other("d", 4, cluster=OTHER)
    result = await world.check("consensus.cluster")
    assert (result.status, f"{OTHER}: d" in result.detail) == ("fail", True)
    world.other("e", 5, tag="etcd")
    result = await world.check("consensus.cluster")
    assert (result.status, "e (etcd)" in result.detail) == ("fail", True)


async def test_a_voter_that_waits_to_be_added_answers_nobody(tmp_path: Path) -> None:
    world = World(tmp_path)
    for role in (Role.JOINING, Role.REMOVED, Role.FAILED):
        world.me(standing(1, Part.CANDIDATE, CLUSTER), EngineStatus(role, uuid(1)))
        assert world.raft.voter is None
    world.me(standing(1, Part.VOTER, CLUSTER), EngineStatus(Role.CANDIDATE, uuid(1)))
    assert world.raft.voter is not None
