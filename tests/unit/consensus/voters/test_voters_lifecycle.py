"""One agent's part in consensus: what it answers, what it says of itself, and what may fail."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from constellation_core.consensus.interface import Voter
from constellation_core.consensus.voters.founding import Founder, Founding
from constellation_core.consensus.voters.network import Part, UnreachableError
from constellation_core.consensus.voters.record import Places, Record, remember, write_record
from constellation_core.consensus.voters.settings import VoterSettings, VoterTimes
from constellation_core.consensus.voters.wire import (
    Ask,
    Form,
    Prepare,
    Promise,
    Reply,
    Request,
    Retire,
    decode_reply,
    decode_request,
    encode_request,
)
from constellation_core.testing.consensus.agents import FleetAgent
from constellation_core.testing.consensus.simulated_fleet import SimulatedFleet
from constellation_core.testing.virtual_loop import run_virtual

TIMES = VoterTimes(settle=1.0, stable=2.0, dead=20.0, catch_up=10.0, defer=20.0, restart=5.0)
CLUSTER = str(uuid4())


def run(
    root: Path,
    scenario: Callable[[SimulatedFleet], Awaitable[None]],
    size: int = 3,
    voters: int = 3,
) -> None:
    async def main() -> None:
        world = SimulatedFleet(root, 1, size, voters, TIMES)
        async with world.running():
            await scenario(world)

    run_virtual(main())


async def ask(agent: FleetAgent, request: Request) -> Reply:
    assert agent.lifecycle is not None
    return decode_reply(await agent.lifecycle.answer(encode_request(request)))


def voters_named(world: SimulatedFleet) -> set[str]:
    if not world.alive():
        return set()
    ids = {each.id for each in world.cluster.voters}
    return {name for name, each in world.agents.items() if each.up and each.standing.id in ids}


def test_a_candidate_says_what_it_waits_for(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.start("n0", "n1")
        n0 = world.agents["n0"]
        await world.until(lambda: "2 of 3" in n0.standing.doing, 10)
        assert n0.standing.part is Part.CANDIDATE
        assert n0.standing.cluster is None
        assert n0.standing.problems == ()
        assert n0.lifecycle is not None
        assert n0.lifecycle.voter is None
        assert (await ask(n0, Ask())).id == n0.standing.id

    run(tmp_path, scenario)


def test_changes_are_told(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        seen = []
        agent = world.agents["n0"]
        agent.changed = lambda: seen.append(agent.standing.part if agent.up else None)
        world.start()
        lifecycle = agent.lifecycle
        assert lifecycle is not None
        await world.until(lambda: world.settled(3), 60)
        await asyncio.sleep(5)
        assert seen[0] is Part.CANDIDATE
        assert seen[-1] is Part.VOTER
        before = len(seen)
        await asyncio.sleep(30)
        assert len(seen) == before, "nothing changed"

    run(tmp_path, scenario)


def test_what_is_no_request_is_answered_as_such(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.start("n0")
        await asyncio.sleep(2)
        lifecycle = world.agents["n0"].lifecycle
        assert lifecycle is not None
        reply = decode_reply(await lifecycle.answer(b"\xc1"))
        assert not reply.done
        assert "not MessagePack" in reply.reason

    run(tmp_path, scenario)


def test_after_its_end_an_agent_answers_and_starts_nothing(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.start()
        await world.until(lambda: world.settled(3), 60)
        agent = world.agents["n0"]
        lifecycle = agent.lifecycle
        assert lifecycle is not None
        await lifecycle.close()
        await lifecycle.close()
        assert lifecycle.voter is None
        assert not (await ask(agent, Prepare(CLUSTER, agent.standing.id))).done
        await asyncio.sleep(30)
        assert lifecycle.voter is None
        assert agent.task is not None
        assert agent.task.done()

    run(tmp_path, scenario)


def test_a_leader_that_ends_hands_over(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.start()
        await world.until(lambda: world.settled(3), 60)
        leader = world.cluster.leader
        assert leader is not None
        term = world.cluster.term
        lifecycle = world.agents[leader.machine].lifecycle
        assert lifecycle is not None
        await lifecycle.close()
        assert world.cluster.leader is not leader
        assert world.cluster.leader is not None
        assert world.cluster.term == term + 1

    run(tmp_path, scenario)


def test_a_promise_needs_the_same_view(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.start("n0", "n1")
        await asyncio.sleep(2)
        n0, n1 = world.agents["n0"], world.agents["n1"]
        founders = tuple(
            Founder(each.name, each.standing.id, each.standing.address) for each in (n0, n1)
        )
        stranger = Founder("n2", str(uuid4()), "10.0.0.3:7947")
        reply = await ask(n1, Promise(Founding(1, CLUSTER, (*founders, stranger))))
        assert "founded by n0, n1" in reply.reason
        reply = await ask(n1, Promise(Founding(1, CLUSTER, (founders[0], stranger))))
        assert not reply.done

    run(tmp_path, scenario)


def test_an_earlier_promise_is_no_obstacle_when_most_of_its_founders_agree(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        # n2 proposed to found with n3 and n4, and is never seen again.
        ids = {name: str(uuid4()) for name in ("n2", "n3", "n4")}
        earlier = Founding(
            1, CLUSTER, tuple(Founder(n, ids[n], world.agents[n].settings.address) for n in ids)
        )
        for name in ("n3", "n4"):
            places = Places(world.agents[name].directory)
            places.make()
            places.candidate.write_text(ids[name])
            write_record(places, Record(promises=(earlier,)))
        world.start("n0", "n1", "n3")
        n0 = world.agents["n0"]
        await world.until(lambda: "n3 does not agree" in n0.standing.doing, 30)
        await asyncio.sleep(60)
        assert world.clusters.by_id == {}, "n4 may still found with n2"
        world.start("n4")
        await world.until(lambda: voters_named(world) == {"n0", "n1", "n3"}, 60)

    run(tmp_path, scenario, size=5)


def test_who_promised_once_is_not_asked_again(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        asked: dict[str, int] = {"n1": 0, "n2": 0}
        carry = world.fleet.carry

        async def lose(sender: str, receiver: str, request: bytes, timeout: float) -> bytes:
            if isinstance(decode_request(request), Promise):
                asked[receiver] += 1
                if (receiver == "n1") != (asked[receiver] == 1):
                    raise UnreachableError("lost")
            return await carry(sender, receiver, request, timeout)

        world.fleet.carry = lose  # type: ignore[method-assign]
        world.start()
        await world.until(lambda: world.settled(3), 60)
        assert asked == {"n1": 1, "n2": 2}

    run(tmp_path, scenario)


def test_who_holds_data_or_knows_a_cluster_promises_and_forms_nothing(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.start()
        await world.until(lambda: world.settled(3), 60)
        await world.until(lambda: world.agents["n3"].standing.cluster is not None, 30)
        (mine,) = world.alive()
        for name in ("n0", "n3"):
            agent = world.agents[name]
            me = Founder(name, agent.standing.id, agent.standing.address)
            for request in (
                Promise(Founding(9, CLUSTER, (me,))),
                Form(Founding(9, CLUSTER, (me,))),
            ):
                reply = await ask(agent, request)
                assert "holds a voter's data" in reply.reason or (
                    name == "n3" and mine in reply.reason
                )
                assert not reply.done
                assert reply.never or isinstance(request, Promise)

    run(tmp_path, scenario, size=4)


def test_who_is_not_meant_is_not_prepared(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.start()
        await world.until(lambda: world.settled(3), 60)
        await world.until(lambda: world.agents["n3"].standing.cluster is not None, 30)
        (mine,) = world.alive()
        n0, n3 = world.agents["n0"], world.agents["n3"]
        assert "knows the cluster" in (await ask(n3, Prepare(CLUSTER, n3.standing.id))).reason
        assert "not here" in (await ask(n3, Prepare(mine, str(uuid4())))).reason
        assert (await ask(n0, Prepare(mine, n0.standing.id))).done, "it is one already"
        before = n3.standing.id
        assert (await ask(n3, Prepare(mine, before))).done
        assert (await ask(n3, Prepare(mine, before))).done
        assert n3.standing.part is Part.JOINING
        assert n3.standing.id == before
        assert n3.standing.doing == "waiting to be made a voter"
        # It is not needed, and runs no engine for nothing.
        await world.until(lambda: n3.standing.part is Part.CANDIDATE, 30)

    run(tmp_path, scenario, size=4)


def test_who_does_not_vote_is_not_prepared(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        n0 = world.agents["n0"]
        world.fleet.start("n0", replace(n0.settings, vote=False))
        await asyncio.sleep(2)
        assert n0.standing.part is Part.NONE
        reply = await ask(n0, Prepare(CLUSTER, n0.standing.id))
        assert "does not vote" in reply.reason

    run(tmp_path, scenario)


def test_a_voter_is_retired_unless_it_knows_better(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.start()
        await world.until(lambda: world.settled(3), 60)
        agent = world.agents["n1"]
        (mine,) = world.alive()
        id_, places = agent.standing.id, Places(agent.directory)
        late = world.cluster.commit_index
        assert "knows of later" in (await ask(agent, Retire(mine, id_, late))).reason
        assert "another cluster" in (await ask(agent, Retire(CLUSTER, id_, late + 9))).reason
        assert (await ask(agent, Retire(mine, str(uuid4()), late + 9))).done
        assert agent.standing.part is Part.VOTER
        assert (await ask(agent, Retire(mine, id_, late + 9))).done
        assert agent.standing.part is Part.CANDIDATE
        assert agent.standing.id != id_
        assert json.loads((places.removed / "identity").read_text())["voter"] == id_
        assert (await ask(agent, Retire(mine, id_, late + 9))).done, "it may arrive twice"
        await world.until(lambda: world.settled(3), 200)

    run(tmp_path, scenario)


def test_an_address_in_use_costs_the_vote_until_it_is_free(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.engines["n0"].address_error = "in use"
        world.start()
        n0 = world.agents["n0"]
        await world.until(lambda: n0.standing.problems, 10)
        assert n0.standing.part is Part.NONE
        assert n0.standing.problems == ("This agent cannot vote: in use",)
        await asyncio.sleep(30)
        assert world.clusters.by_id == {}
        world.engines["n0"].address_error = None
        await world.until(lambda: world.settled(3), 60)
        assert n0.standing.problems == ()

    run(tmp_path, scenario)


def test_a_record_that_cannot_be_read_is_a_problem_and_ends_nothing(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        n0 = world.agents["n0"]
        places = Places(n0.directory)
        places.make()
        places.node.write_bytes(b"?")
        world.start()
        await world.until(lambda: n0.standing.problems, 10)
        assert "cannot be read" in n0.standing.problems[0]
        assert n0.standing.part is Part.FAILED
        assert not (await ask(n0, Ask())).done
        # The record may say that there is a cluster.
        await asyncio.sleep(60)
        assert world.clusters.by_id == {}
        places.node.unlink()
        await world.until(lambda: world.settled(3), 60)
        assert n0.standing.problems == ()

    run(tmp_path, scenario)


def test_an_engine_that_fails_is_started_again(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.start()
        await world.until(lambda: world.settled(3), 60)
        n0 = world.agents["n0"]
        assert n0.lifecycle is not None
        voter = n0.lifecycle.voter
        assert voter is not None
        await voter.engine.stop()
        await world.until(lambda: n0.standing.part is Part.FAILED, 10)
        assert "does not run" in n0.standing.problems[0]
        await world.until(lambda: world.settled(3), 60)
        assert n0.lifecycle.voter not in (None, voter)
        assert n0.standing.problems == ()

    run(tmp_path, scenario)


def test_a_voter_without_a_leader_says_so(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.start()
        await world.until(lambda: world.settled(3), 60)
        n0 = world.agents["n0"]
        for name in ("n1", "n2"):
            await world.fleet.stop(name)
        await asyncio.sleep(10)
        assert n0.standing.problems == ()
        await world.until(lambda: n0.standing.problems, 10)
        assert "no leader" in n0.standing.problems[0]
        world.start("n1")
        await world.until(lambda: not any("no leader" in e for e in n0.standing.problems), 10)

    run(tmp_path, scenario)


def test_who_cannot_be_reached_by_the_voters_is_not_added(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        # Its agent answers, but a firewall stands before its engine.
        raft = world.clusters.linked
        world.clusters.linked = lambda one, other: raft(one, other) and "n3" not in (one, other)
        world.start("n0", "n1", "n2")
        await world.until(lambda: world.settled(3), 60)
        await world.fleet.stop("n2")
        world.start("n3")
        n3 = world.agents["n3"]
        await world.until(lambda: n3.standing.doing == "waiting to be made a voter", 120)
        for _ in range(240):
            await asyncio.sleep(0.25)
            assert n3.standing.id not in {each.id for each in world.cluster.voters}
        assert len(voters_named(world)) == 2
        world.clusters.linked = raft
        await world.until(lambda: voters_named(world) == {"n0", "n1", "n3"}, 120)

    run(tmp_path, scenario, size=4)


def test_a_new_voter_that_does_not_get_the_log_is_removed_again(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.start("n0", "n1", "n2")
        await world.until(lambda: world.settled(3), 60)
        raft = world.clusters.linked
        world.clusters.linked = lambda one, other: raft(one, other) and "n3" not in (one, other)

        async def reach(cluster: str, voter: Voter, *, timeout: float) -> None:
            """The address can be reached, and is of no use."""

        for each in world.engines.values():
            each.reach = reach  # type: ignore[method-assign]
        await world.fleet.stop("n2")
        world.start("n3")
        id_ = None

        def added() -> bool:
            nonlocal id_
            id_ = world.agents["n3"].standing.id
            return id_ in {each.id for each in world.cluster.voters}

        await world.until(added, 120)
        await world.until(lambda: id_ not in {each.id for each in world.cluster.voters}, 20)
        assert len(voters_named(world)) == 2
        await asyncio.sleep(TIMES.defer - 12)
        assert not added(), "it is left alone for a while"
        world.clusters.linked = raft
        await world.until(lambda: voters_named(world) == {"n0", "n1", "n3"}, 120)

    run(tmp_path, scenario, size=4)


def test_a_founder_that_vanished_at_once_comes_back_as_a_candidate(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        ends = []
        world.engines["n2"].created = lambda: ends.append(
            asyncio.create_task(world.fleet.stop("n2"))
        )
        world.start("n0", "n1", "n2")
        await world.until(lambda: ends, 60)
        world.start("n3")
        await world.until(lambda: voters_named(world) == {"n0", "n1", "n3"}, 200)
        world.engines["n2"].created = lambda: None
        world.start("n2")
        # It began before the cluster came to life, and nobody leads it: others tell it.
        await world.until(lambda: world.agents["n2"].standing.part is Part.CANDIDATE, 60)
        assert world.agents["n2"].standing.cluster in world.alive()

    run(tmp_path, scenario, size=4)


def test_who_leads_next_goes_on_counting_removals(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.start()
        await world.until(lambda: world.settled(3), 60)
        leader = world.cluster.leader
        assert leader is not None
        first, second = sorted(voters_named(world) - {leader.machine})
        await world.fleet.stop(first)
        await world.until(lambda: len(voters_named(world)) == 3, 200)
        heir = world.agents[second].standing.id
        await leader.transfer_leadership(heir)
        lost = world.agents[leader.machine].standing.id
        await world.fleet.stop(leader.machine)
        await asyncio.sleep(600)
        assert lost in {each.id for each in world.cluster.voters}
        assert "a voter should be replaced" in world.agents[second].standing.doing
        await world.until(lambda: len(voters_named(world)) == 3, TIMES.removals)

    run(tmp_path, scenario, size=5)


def test_who_is_told_is_told_what_the_leader_is_sure_of(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        told: list[tuple[int, int]] = []
        carry = world.fleet.carry

        async def listen(sender: str, receiver: str, request: bytes, timeout: float) -> bytes:
            asked = decode_request(request)
            if isinstance(asked, Retire):
                told.append((asked.index, world.cluster.commit_index))
            return await carry(sender, receiver, request, timeout)

        world.fleet.carry = listen  # type: ignore[method-assign]
        world.start()
        await world.until(lambda: world.settled(3), 60)
        name = sorted(voters_named(world))[1]
        await world.fleet.stop(name)
        await world.until(lambda: len(voters_named(world)) == 3, 200)
        world.start(name)
        await world.until(lambda: told, 60)
        assert all(index <= committed for index, committed in told)

    run(tmp_path, scenario, size=4)


def test_who_does_not_vote_imports_no_engine(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from pathlib import Path
from random import Random
from constellation_core.consensus.clock import SystemBootClock
from constellation_core.consensus.voters import *

class Nobody:
    joined = False
    def candidates(self):
        return ()
    async def call(self, node, request, *, timeout):
        raise UnreachableError("nobody")

async def main():
    engines = BuiltinEngines(("127.0.0.1", 0), [bytes(32)])
    settings = VoterSettings("a", "eu", "127.0.0.1:1", 3)
    path, nobody = Path(sys.argv[1]), Nobody()
    life = VoterLifecycle(path, settings, nobody, nobody, engines, SystemBootClock(), Random(1))
    running = asyncio.create_task(life.run())
    while not life.standing.doing:
        await asyncio.sleep(0.01)
    running.cancel()
    assert life.standing.part is Part.CANDIDATE

asyncio.run(main())
print([name for name in sys.modules if "pysyncobj" in name or name.endswith("consensus.engine")])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_agents_follow_a_cluster_that_was_restored(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.start()
        await world.until(lambda: world.settled(3), 60)
        await world.until(lambda: world.agents["n3"].standing.cluster is not None, 30)
        (old,) = world.alive()
        for name in ("n0", "n1", "n2"):
            await world.fleet.stop(name)
        for name in ("n0", "n1"):
            world.fleet.wipe(name)
        # What a restore leaves: a single voter of a new cluster, which names the old one.
        new, n0 = str(uuid4()), world.agents["n0"]
        remember(n0.directory, new, (old,))
        places = Places(n0.directory)
        voter = str(uuid4())
        founder = Founding(1, new, (Founder("n0", voter, n0.settings.address),))
        world.engines["n0"].create(places.voter, new, voter, founder.voters)
        world.start("n0", "n1")
        n3, n2 = world.agents["n3"], world.agents["n2"]
        await world.until(lambda: n3.standing.cluster == new, 60)
        assert n3.standing.former == (old,)
        # Who still holds data from before says so, and changes nothing by itself.
        world.start("n2")
        await world.until(lambda: n2.standing.problems, 60)
        assert "holds data from before" in n2.standing.problems[0]
        await world.until(lambda: len(world.clusters.by_id[new].voters) == 3, 120)
        assert n2.standing.cluster == old
        assert any("n2 has not followed" in each for each in n0.standing.problems)

    run(tmp_path, scenario, size=4)


def test_two_clusters_that_meet_refuse_each_other_and_say_so(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.conditions.cut = {frozenset(("n0", "n1"))}
        for name in ("n0", "n1"):
            settings = world.agents[name].settings
            alone = VoterSettings(name, "eu", settings.address, 1, True, TIMES)
            world.fleet.start(name, alone)
            remember(world.agents[name].directory, str(uuid4()))
        n0, n1 = world.agents["n0"], world.agents["n1"]
        world.conditions.cut.clear()
        await world.until(lambda: n0.standing.problems and n1.standing.problems, 30)
        for agent, other in ((n0, n1), (n1, n0)):
            (problem,) = agent.standing.problems
            assert problem.startswith(f"Two clusters meet: {other.name} belong")
            assert agent.standing.part is Part.CANDIDATE

    run(tmp_path, scenario, size=2)


@pytest.mark.parametrize("voters", [0, 2, 4, 8])
def test_only_sensible_numbers_of_voters_can_be_set(voters: int) -> None:
    with pytest.raises(ValueError, match="1, 3, 5, 7"):
        VoterSettings("a", "eu", "10.0.0.1:1", voters)


def test_a_copied_directory_is_a_problem_of_both(tmp_path: Path) -> None:
    async def scenario(world: SimulatedFleet) -> None:
        world.start("n0", "n1", "n2")
        await world.until(lambda: world.settled(3), 60)
        n0, n3 = world.agents["n0"], world.agents["n3"]
        shutil.copytree(n0.directory, n3.directory)
        world.start("n3")
        for agent, other in ((n0, "n3"), (n3, "n0")):
            await world.until(lambda agent=agent: agent.standing.problems, 30)
            assert any(f"{other} says that it is this" in each for each in agent.standing.problems)

    run(tmp_path, scenario, size=4)
