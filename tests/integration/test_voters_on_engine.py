"""Who votes, with real engines on loopback, in real time."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from random import SystemRandom

import pytest

from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.engine import Timing
from constellation_core.consensus.interface import ConsensusError, Role
from constellation_core.consensus.state.operations import OpenSession, encode
from constellation_core.consensus.voters.builtin import BuiltinEngines
from constellation_core.consensus.voters.network import Part
from constellation_core.consensus.voters.settings import VoterSettings, VoterTimes
from constellation_core.testing.consensus.agents import Fleet, FleetAgent, FleetConditions
from constellation_core.testing.free_ports import PortPicker
from constellation_core.testing.waiting import until

pytestmark = pytest.mark.integration

KEY = bytes(range(32))
BRISK = Timing(election_min=0.3, election_max=0.6, heartbeat=0.05, leader_patience=0.6)
TIMES = VoterTimes(
    settle=0.5,
    stable=0.5,
    dead=1.5,
    catch_up=10.0,
    removals=3600.0,
    defer=3.0,
    interval=0.1,
    answer=3.0,
    restart=0.5,
)


class RealFleet:
    """Agents with real engines."""

    def __init__(self, root: Path) -> None:
        self.ports = PortPicker()
        self.fleet = Fleet(root, SystemRandom(), SystemBootClock(), FleetConditions(patience=0.6))

    def add(self, name: str, voters: int = 3, region: str = "eu", vote: bool = True) -> FleetAgent:
        port = self.ports.pick()
        settings = VoterSettings(name, region, f"127.0.0.1:{port}", voters, vote, TIMES)
        return self.fleet.add(settings, BuiltinEngines(("127.0.0.1", port), [KEY], BRISK))

    async def start(self, *names: str) -> None:
        for name in names:
            self.fleet.start(name)

    def leader(self) -> FleetAgent | None:
        for agent in self.fleet.agents.values():
            voter = agent.lifecycle.voter if agent.lifecycle is not None else None
            if voter is not None and voter.status.role is Role.LEADER:
                return agent
        return None

    def voters(self) -> set[str]:
        """Names of the agents whose voters a leader counts, all of them answering."""
        leader = self.leader()
        if leader is None or leader.lifecycle is None or leader.lifecycle.voter is None:
            return set()
        status = leader.lifecycle.voter.status
        if status.change_pending or any(seconds > 1 for _, seconds in status.heard):
            return set()
        ids = {voter.id for voter in status.voters}
        if any(match == 0 for _, match in status.match):
            return set()
        found = {a.name for a in self.fleet.agents.values() if a.up and a.standing.id in ids}
        return found if len(found) == len(ids) else set()

    async def wait(self, condition: Callable[[], object], what: str, timeout: float = 40) -> None:
        async def check() -> object:
            return condition()

        await until(check, timeout, what, explain=self.describe)

    async def wait_for_voters(self, *names: str) -> None:
        await self.wait(lambda: self.voters() == set(names), f"the voters {names}")

    async def commit(self) -> None:
        """Something is committed through the leader."""

        async def attempt() -> bool:
            leader = self.leader()
            if leader is None or leader.lifecycle is None or leader.lifecycle.voter is None:
                return False
            try:
                await leader.lifecycle.voter.access.propose(encode(OpenSession()), timeout=5)
            except ConsensusError:
                return False
            return True

        await until(attempt, 20, "a commit", explain=self.describe)

    def describe(self) -> str:
        lines = []
        for name, agent in self.fleet.agents.items():
            lines.append(f"{name}: {agent.standing if agent.up else 'down'}")
            if agent.lifecycle is not None and agent.lifecycle.voter is not None:
                lines.append(f"   {agent.lifecycle.voter.status}")
        return "\n".join(lines)


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[RealFleet]:
    made = RealFleet(tmp_path)
    async with made.fleet.running():
        yield made


async def test_three_found_a_cluster_and_a_fourth_only_knows_it(real: RealFleet) -> None:
    for name in "abcd":
        real.add(name)
    await real.start("d", "c", "b", "a")
    await real.wait_for_voters("a", "b", "c")
    await real.commit()

    def known() -> bool:
        clusters = {each.standing.cluster for each in real.fleet.agents.values()}
        return len(clusters) == 1 and None not in clusters

    await real.wait(known, "one cluster that all know")
    assert real.fleet.agents["d"].standing.part is Part.CANDIDATE


async def test_a_lone_agent_starts_at_once_and_grows_when_others_come(real: RealFleet) -> None:
    a = real.add("a", voters=1)
    await real.start("a")
    await real.wait_for_voters("a")
    await real.commit()
    await real.fleet.stop("a")
    a.settings = VoterSettings("a", "eu", a.settings.address, 3, True, TIMES)
    real.add("b")
    await real.start("a", "b")
    await real.wait_for_voters("a")
    await real.wait(lambda: "1 of 3 voters" in a.standing.doing, "a reason")
    assert any("1 of 3 voters" in each for each in a.standing.problems)
    real.add("c")
    await real.start("c")
    await real.wait_for_voters("a", "b", "c")
    await real.commit()


async def test_another_takes_the_place_of_a_voter_that_died(real: RealFleet) -> None:
    for name in "abcd":
        real.add(name)
    await real.start("a", "b", "c")
    await real.wait_for_voters("a", "b", "c")
    await real.start("d")
    leader = real.leader()
    assert leader is not None
    await real.fleet.stop(leader.name)
    await real.wait_for_voters(*({"a", "b", "c", "d"} - {leader.name}))
    await real.commit()
    # It comes back with its data, is told, and becomes a candidate with a new id.
    before = (leader.directory / "voter" / "identity").read_text()
    await real.start(leader.name)
    await real.wait(
        lambda: leader.standing.part is Part.CANDIDATE, "the former voter to be a candidate"
    )
    assert leader.standing.id not in before
    assert (leader.directory / "voter.removed" / "identity").read_text() == before


async def test_a_wiped_voter_comes_back_as_another_one(real: RealFleet) -> None:
    for name in "abc":
        real.add(name)
    await real.start("a", "b", "c")
    await real.wait_for_voters("a", "b", "c")
    before = real.fleet.agents["b"].standing.id
    await real.fleet.stop("b")
    real.fleet.wipe("b")
    await real.start("b")
    await real.wait_for_voters("a", "b", "c")
    await real.commit()
    assert real.fleet.agents["b"].standing.id != before


async def test_a_damaged_voter_is_replaced_by_itself(real: RealFleet) -> None:
    for name in "abc":
        real.add(name)
    await real.start("a", "b", "c")
    await real.wait_for_voters("a", "b", "c")
    await real.commit()
    await real.fleet.stop("b")
    snapshot = real.fleet.agents["b"].directory / "voter" / "snapshot"
    snapshot.write_bytes(snapshot.read_bytes()[:-1] + b"?")
    await real.start("b")
    await real.wait(lambda: real.fleet.agents["b"].standing.part is Part.FAILED, "the refusal")
    before = real.fleet.agents["b"].standing.id
    assert "does not run" in real.fleet.agents["b"].standing.problems[0]
    await real.wait(lambda: real.fleet.agents["b"].standing.id != before, "another id")
    await real.wait_for_voters("a", "b", "c")
    await real.commit()


async def test_a_port_in_use_costs_the_vote_and_nothing_else(real: RealFleet) -> None:
    a = real.add("a", voters=1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(a.settings.address.rpartition(":")[2])))
        taken.listen()
        await real.start("a")
        await real.wait(lambda: a.standing.problems, "the problem")
        assert a.standing.part is Part.NONE
        assert "cannot listen" in a.standing.problems[0]
    await real.wait_for_voters("a")
    assert a.standing.problems == ()


async def test_a_voter_that_is_not_to_vote_any_more_is_replaced(real: RealFleet) -> None:
    for name in "abcd":
        real.add(name)
    await real.start("a", "b", "c")
    await real.wait_for_voters("a", "b", "c")
    await real.start("d")
    leader = real.leader()
    assert leader is not None
    await real.fleet.stop(leader.name)
    leader.settings = VoterSettings(leader.name, "eu", leader.settings.address, 3, False, TIMES)
    await real.start(leader.name)
    await real.wait_for_voters(*({"a", "b", "c", "d"} - {leader.name}))
    await real.wait(lambda: leader.standing.part is Part.NONE, "its voter to end")
    shutil.rmtree(leader.directory / "voter.removed")


async def test_a_lone_voter_does_not_depend_on_what_else_listens_at_an_address(
    real: RealFleet,
) -> None:
    a = real.add("a", voters=1)
    await real.start("a")
    await real.wait_for_voters("a")
    await real.fleet.stop("a")
    a.settings = replace(a.settings, voters=3)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        b = real.add("b")
        b.settings = replace(b.settings, address=f"127.0.0.1:{other.getsockname()[1]}")
        real.add("c")
        await real.start("a", "b", "c")
        # It was asked, and did what it could.
        await real.wait(lambda: b.standing.doing == "waiting to be made a voter", "the attempt")
        await asyncio.sleep(2 * TIMES.answer)
        await real.commit()
        assert real.voters() == {"a"}
