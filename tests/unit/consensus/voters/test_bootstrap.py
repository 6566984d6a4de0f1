"""What an agent does that knows of no cluster, decision by decision."""

from __future__ import annotations

from dataclasses import replace

import pytest

from constellation_core.consensus.voters.bootstrap import Adopt, Found, View, Wait, decide
from constellation_core.consensus.voters.network import Candidate, Part


def agent(name: str, **changes: object) -> Candidate:
    made = Candidate(
        name=name,
        region="eu",
        address=f"10.0.0.1:{ord(name)}",
        alive=True,
        since=0.0,
        part=Part.CANDIDATE,
        willing=True,
        id=f"id-{name}",
        cluster=None,
        wanted=3,
        operations=1,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def view(*others: Candidate, me: Candidate | None = None, **changes: object) -> View:
    made = View(me or agent("a"), others, joined=True, calm=10.0, settle=5.0)
    return replace(made, **changes)  # type: ignore[arg-type]


def reason(seen: View) -> str:
    action = decide(seen)
    assert isinstance(action, Wait)
    return action.reason


def test_the_lowest_of_enough_founds_with_the_next() -> None:
    action = decide(view(agent("d"), agent("c"), agent("b")))
    assert isinstance(action, Found)
    assert [each.name for each in action.founders] == ["a", "b", "c"]
    assert action.founders[1].id == "id-b"
    assert action.founders[1].address == agent("b").address


def test_the_others_wait_for_it() -> None:
    assert "waiting for a " in reason(view(agent("a"), agent("c"), me=agent("b")))
    assert "waiting for a " in reason(view(agent("a"), agent("b"), agent("c"), me=agent("d")))


@pytest.mark.parametrize(
    "unfit",
    [
        {"alive": False},
        {"willing": False},
        {"part": Part.NONE},
        {"wanted": 5},
    ],
)
def test_only_who_is_alive_and_wants_the_same_counts(unfit: dict[str, object]) -> None:
    assert "2 of 3" in reason(view(agent("b"), agent("c", **unfit)))


def test_where_a_cluster_is_known_none_is_founded() -> None:
    assert decide(view(agent("b"), agent("c"), agent("d", cluster="x"))) == Adopt("x")
    assert decide(view(agent("b"), agent("c"), agent("d", cluster="x", alive=False))) == Adopt("x")


def test_the_dead_do_not_speak_against_the_living() -> None:
    assert decide(view(agent("b", cluster="x"), agent("c", cluster="y", alive=False))) == Adopt("x")
    assert "two clusters" in reason(view(agent("b", cluster="x"), agent("c", cluster="y")))


def test_while_somebody_has_begun_all_others_wait() -> None:
    begun = agent("d", part=Part.VOTER)
    assert "that d has founded" in reason(view(agent("b"), agent("c"), begun))
    assert isinstance(decide(view(agent("b"), agent("c"), replace(begun, alive=False))), Found)


def test_nothing_is_founded_beside_one_that_cannot_read_what_it_holds() -> None:
    broken = agent("d", part=Part.FAILED)
    assert "waiting for d, which cannot" in reason(view(agent("b"), agent("c"), broken))
    lone = agent("a", wanted=1)
    assert "waiting for d, which cannot" in reason(view(broken, me=lone))


def test_who_has_met_nobody_waits() -> None:
    assert "meet another" in reason(view(joined=False, me=agent("a", wanted=1)))
    assert "meet another" in reason(view(agent("b"), agent("c"), joined=False))


def test_a_lone_agent_that_expects_nobody_starts_at_once() -> None:
    assert isinstance(decide(view(me=agent("a", wanted=1), calm=0.0)), Found)


def test_all_others_wait_until_nothing_changes_any_more() -> None:
    assert "no more agents appear" in reason(view(agent("b"), agent("c"), calm=4.9))
    alone = agent("a", wanted=1)
    assert "no more agents appear" in reason(view(agent("b"), me=alone, calm=4.9))


def test_who_does_not_vote_or_cannot_waits() -> None:
    assert "does not vote" in reason(view(agent("b"), agent("c"), me=agent("a", willing=False)))
    none = agent("a", part=Part.NONE)
    assert "cannot vote" in reason(view(agent("b"), agent("c"), agent("d"), me=none))
