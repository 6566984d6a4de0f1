"""What a leader does about the voters, decision by decision."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation_core.consensus.interface import EngineStatus, Role, Voter
from constellation_core.consensus.voters.autopilot import (
    Action,
    Add,
    Dismiss,
    HandOver,
    Raise,
    Remove,
    Rest,
    decide,
)
from constellation_core.consensus.voters.network import Candidate, Part
from constellation_core.consensus.voters.problems import problems
from constellation_core.consensus.voters.seats import View, majority, seats
from constellation_core.consensus.voters.settings import VoterTimes

NOW = 10_000.0
TIMES = VoterTimes()


def address(name: str) -> str:
    return f"10.0.0.1:{1000 + sum(map(ord, name))}"


def agent(name: str, part: Part = Part.CANDIDATE, **changes: object) -> Candidate:
    made = Candidate(
        name=name,
        region="eu",
        address=address(name),
        alive=True,
        since=0.0,
        part=part,
        willing=True,
        id=f"id-{name}",
        cluster="cluster",
        wanted=3,
        operations=1,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def view(
    voters: str,
    *others: Candidate,
    silent: str = "",
    wanted: int = 3,
    me: Candidate | None = None,
    **changes: object,
) -> View:
    """The view of the voter ``a``; the others of ``voters`` are its agents unless given."""
    mine = replace(me or agent("a", Part.VOTER), wanted=wanted)
    given = {each.name for each in others}
    rest = [agent(name, Part.VOTER) for name in voters if name != "a" and name not in given]
    status = EngineStatus(
        Role.LEADER,
        "id-a",
        commit_index=9,
        voters=tuple(Voter(f"id-{name}", address(name)) for name in voters),
        match=tuple((f"id-{name}", 9) for name in voters if name != "a"),
        heard=tuple((f"id-{n}", 1000.0 if n in silent else 0.1) for n in voters if n != "a"),
    )
    made = View(status, mine, (*others, *rest), NOW, 1, 0, frozenset(), frozenset(), TIMES)
    return replace(made, **changes)  # type: ignore[arg-type]


def dead(name: str, **changes: object) -> Candidate:
    return agent(name, Part.VOTER, alive=False, **changes)


def test_nothing_is_done_while_all_is_well() -> None:
    assert decide(view("abc")) == Rest("all is well")
    assert problems(view("abc")) == ()


def test_a_voter_that_is_silent_for_a_while_is_waited_for_and_named() -> None:
    seen = view("abc", dead("c", since=NOW - 10))
    heard = (("id-b", 0.1), ("id-c", 10.0))
    seen = replace(seen, status=replace(seen.status, heard=heard))
    assert decide(seen) == Rest("waiting for c: a voter that is dead for 300 seconds is replaced")


def test_a_leader_that_has_removed_enough_says_that_it_waits_for_that() -> None:
    assert decide(view("abcd", removals=1)) == Rest(
        "4 voters, 3 wanted: one has to wait to be removed, for no more than 1 may be removed"
        " within 60 minutes"
    )


def test_nothing_is_done_while_a_change_is_on_its_way() -> None:
    pending = view("abc", agent("d"))
    pending = replace(pending, status=replace(pending.status, change_pending=True))
    assert isinstance(decide(pending), Rest)


def test_one_voter_grows_only_if_there_will_be_three() -> None:
    assert decide(view("a", agent("b"))) == Rest(
        "1 of 3 voters: not enough other agents that could vote have been alive for 30 seconds"
    )
    assert decide(view("a", agent("b"), agent("c"))) == Add(agent("b"))
    assert decide(view("ab", agent("c"))) == Add(agent("c"))
    assert isinstance(decide(view("a", agent("b"), agent("c"), wanted=1)), Rest)


def test_three_voters_grow_by_two() -> None:
    assert isinstance(decide(view("abc", agent("d"), wanted=5)), Rest)
    assert decide(view("abc", agent("d"), agent("e"), wanted=5)) == Add(agent("d"))
    assert decide(view("abcd", agent("e"), wanted=5)) == Add(agent("e"))


@pytest.mark.parametrize(
    "unfit",
    [
        {"alive": False},
        {"willing": False},
        {"part": Part.NONE},
        {"part": Part.FAILED, "cluster": "another"},
        {"cluster": "another"},
        {"since": NOW - 29},
        {"operations": 0},
    ],
)
def test_who_is_not_fit_is_not_added(unfit: dict[str, object]) -> None:
    assert decide(view("ab", agent("c", **unfit))) != Add(agent("c", **unfit))
    assert isinstance(decide(view("ab", agent("c", **unfit))), Rest)


def test_who_failed_lately_is_not_tried_again_at_once() -> None:
    assert isinstance(decide(view("ab", agent("c"), deferred=frozenset({"id-c"}))), Rest)


def test_voters_are_spread_over_regions() -> None:
    one, two = agent("c", region="eu"), agent("d", region="us")
    assert decide(view("ab", one, two)) == Add(two)


def test_the_region_of_a_lost_voter_is_free_again() -> None:
    lost = dead("c", region="us")
    one, two = agent("d", region="us"), agent("e", region="eu")
    seen = view("abcfg", lost, one, two, silent="c", wanted=5)
    assert decide(seen) == Add(one)


def test_a_dead_voter_is_removed_first_when_the_majority_would_depend_on_the_new_one() -> None:
    seen = view("abc", dead("c"), agent("d"), silent="c")
    action = decide(seen)
    assert isinstance(action, Remove)
    assert action.seat.name == "c"
    assert decide(view("ab", dead("c"), agent("d"))) == Add(agent("d"))


def test_a_dead_voter_is_removed_after_its_successor_came_where_that_is_safe() -> None:
    seen = view("abcde", dead("c"), agent("f"), silent="c", wanted=5)
    assert decide(seen) == Add(agent("f"))
    action = decide(view("abcdef", dead("c"), silent="c", wanted=5))
    assert isinstance(action, Remove)
    assert action.seat.name == "c"


def test_a_dead_voter_that_nobody_can_replace_stays() -> None:
    seen = view("abc", dead("c"), silent="c")
    assert isinstance(decide(seen), Rest)
    assert any("no other agent can take its place" in each for each in problems(seen))


def test_dead_is_who_is_dead_to_both() -> None:
    waits = view("abc", dead("c", since=NOW - 299), agent("d"), silent="c")
    assert isinstance(decide(waits), Rest)
    speaks = view("abc", dead("c"), agent("d"))
    assert isinstance(decide(speaks), Rest)
    lives = view("abc", agent("c", Part.VOTER), agent("d"), silent="c")
    assert isinstance(decide(lives), Rest)
    assert any("is alive, but its voter does not answer" in each for each in problems(lives))


def test_a_new_leader_counts_the_silence_anew() -> None:
    seen = view("abc", dead("c"), agent("d"), silent="c")
    fresh = replace(
        seen.status, heard=(("id-b", 0.1), ("id-c", 0.2)), match=(("id-b", 9), ("id-c", 0))
    )
    assert isinstance(decide(replace(seen, status=fresh)), Rest)
    nobody = replace(fresh, match=(("id-b", 0), ("id-c", 0)))
    assert decide(replace(seen, status=nobody)) == Rest("most voters do not answer")


def test_a_wiped_voter_takes_its_own_place() -> None:
    new = agent("c", id="id-new")
    action = decide(view("abc", new, silent="c"))
    assert isinstance(action, Remove)
    assert action.seat.voter.id == "id-c"
    assert decide(view("ab", new)) == Add(new)


@pytest.mark.parametrize(
    "state", [{"part": Part.FAILED}, {"part": Part.CANDIDATE}, {"address": "10.0.0.9:1"}]
)
def test_a_voter_whose_agent_lives_and_cannot_go_on_is_removed_to_come_back(
    state: dict[str, object],
) -> None:
    action = decide(view("abc", agent("c", **{"part": Part.VOTER, **state}), silent="c"))
    assert isinstance(action, Remove)
    assert action.seat.name == "c"


def test_who_should_not_vote_any_more_is_replaced_and_kept_until_then() -> None:
    leaving = agent("c", Part.VOTER, willing=False)
    assert isinstance(decide(view("abc", leaving)), Rest)
    assert any("leave it running" in each for each in problems(view("abc", leaving)))
    assert decide(view("abc", leaving, agent("d"))) == Add(agent("d"))
    action = decide(view("abcd", leaving))
    assert isinstance(action, Remove)
    assert action.seat.name == "c"


def test_a_leader_that_should_not_vote_hands_over_and_is_removed_by_the_next() -> None:
    me = agent("a", Part.VOTER, willing=False)
    assert decide(view("abc", agent("d"), me=me)) == Add(agent("d"))
    action = decide(view("abcd", me=me))
    assert isinstance(action, HandOver)
    assert action.to.name == "b"


def test_the_only_voter_moves() -> None:
    me = agent("a", Part.VOTER, willing=False)
    assert decide(view("a", agent("b"), me=me)) == Add(agent("b"))
    assert isinstance(decide(view("ab", me=me)), HandOver)


def test_too_many_voters_become_fewer_where_most_are() -> None:
    others = (agent("b", Part.VOTER, region="us"), agent("c", Part.VOTER), agent("d", Part.VOTER))
    action = decide(view("abcd", *others))
    assert isinstance(action, Remove)
    assert action.seat.name == "c"


def test_of_too_many_voters_those_go_whose_loss_leaves_a_majority() -> None:
    action = decide(view("abcde", silent="de"))
    assert isinstance(action, Remove)
    assert action.seat.name == "d"


def test_who_has_a_voters_address_waits_until_that_one_is_gone() -> None:
    new = agent("e", id="id-new")
    action = decide(view("abcde", new, silent="e", wanted=5))
    assert isinstance(action, Remove)
    assert action.seat.voter.id == "id-e"


def test_never_more_than_a_minority_is_removed_in_a_while() -> None:
    seen = view("abc", dead("c"), agent("d"), silent="c")
    assert isinstance(decide(replace(seen, removals=1)), Rest)
    five = view("abcde", dead("d"), dead("e"), agent("f"), silent="de", wanted=5)
    assert isinstance(decide(replace(five, removals=1)), Remove)
    assert isinstance(decide(replace(five, removals=2)), Rest)


def test_nothing_is_changed_without_a_majority() -> None:
    assert decide(view("abc", agent("d"), silent="bc")) == Rest("most voters do not answer")


def test_a_voter_that_is_none_is_told() -> None:
    stray = agent("d", Part.VOTER)
    assert decide(view("abc", stray)) == Dismiss(stray)
    assert isinstance(decide(view("abc", stray, told=frozenset({"id-d"}))), Rest)
    assert isinstance(decide(view("abc", replace(stray, cluster="another"))), Rest)
    assert isinstance(decide(view("abc", replace(stray, alive=False))), Rest)


def test_who_was_made_ready_and_is_not_needed_is_released() -> None:
    ready = agent("d", Part.JOINING)
    assert decide(view("abc", ready)) == Dismiss(ready)
    assert decide(view("ab", ready)) == Add(ready)
    assert isinstance(decide(view("abc", ready, deferred=frozenset({"id-d"}))), Rest)


def test_operations_are_allowed_once_every_voter_knows_them() -> None:
    new = [agent(name, Part.VOTER, operations=3) for name in "abc"]
    assert decide(view("abc", *new[1:], me=new[0])) == Raise(3)
    old = view("abc", new[1], agent("c", Part.VOTER, operations=2), me=new[0])
    assert decide(old) == Raise(2)
    assert isinstance(decide(replace(old, agreed=2)), Rest)
    assert any("older" in each for each in problems(replace(old, agreed=2)))
    unseen = view("abc", new[1], dead("c", operations=3), me=new[0])
    assert isinstance(decide(unseen), Rest)


def test_two_voters_are_a_problem_and_too_few_are() -> None:
    assert "neither can be spared" in problems(view("ab"))[0]
    assert "1 of 3 voters" in problems(view("a"))[0]


NAMES = "abcdefghi"


@st.composite
def views(draw: st.DrawFn) -> View:
    size = draw(st.integers(1, 7))
    voters = NAMES[:size]
    silent = "".join(n for n in voters[1:] if draw(st.integers(0, 3)) == 0)
    others = []
    for name in NAMES[1:]:
        if draw(st.integers(0, 5)) == 0:
            continue
        part = draw(
            st.sampled_from([*Part, Part.VOTER]) if name in voters else st.sampled_from(Part)
        )
        if name not in voters and draw(st.booleans()):
            part = Part.CANDIDATE
        others.append(
            agent(
                name,
                part,
                region=draw(st.sampled_from(["eu", "us"])),
                alive=draw(st.integers(0, 3)) > 0,
                since=draw(st.sampled_from([0.0, NOW - 10, NOW - 100])),
                willing=draw(st.integers(0, 3)) > 0,
                cluster=draw(st.sampled_from(["cluster", "cluster", None, "another"])),
                id=draw(st.sampled_from([f"id-{name}", f"id-{name}", "id-new"])),
                operations=draw(st.integers(1, 3)),
            )
        )
    me = agent("a", Part.VOTER, willing=draw(st.booleans()), operations=draw(st.integers(1, 3)))
    return view(
        voters,
        *others,
        silent=silent,
        me=me,
        wanted=draw(st.sampled_from([1, 3, 5, 7])),
        removals=draw(st.integers(0, 3)),
        agreed=draw(st.integers(1, 2)),
    )


@settings(max_examples=300)
@given(views())
def test_what_is_done_never_costs_the_quorum(seen: View) -> None:
    taken = seats(seen)
    answering = {each.voter.id for each in taken if each.answering}
    action = decide(seen)
    match action:
        case Add(joiner):
            assert joiner.alive
            assert joiner.willing
            assert joiner.cluster in ("cluster", None)
            assert joiner.id not in {each.voter.id for each in taken}
            # Even if it does not answer once it is added.
            assert len(taken) == 1 or len(answering) >= majority(len(taken) + 1)
            assert len(taken) < 7
        case Remove(seat):
            assert not seat.mine
            assert len(answering - {seat.voter.id}) >= majority(len(taken) - 1)
            if len(taken) <= seen.me.wanted:
                assert not seat.good
        case HandOver(seat):
            assert seat.answering
            assert not seat.mine
        case Dismiss(stray):
            assert stray.id not in {each.voter.id for each in taken}
        case Raise(version):
            assert version > seen.agreed
        case Rest(reason):
            assert reason
    problems(seen)


@given(views())
def test_left_alone_it_comes_to_rest(seen: View) -> None:
    """Each action is carried out as it succeeds; who is added or removed lives on, and answers."""
    actions: list[Action] = []
    for _ in range(60):
        action = decide(seen)
        actions.append(action)
        seen = carried_out(seen, action)
        if isinstance(action, Rest):
            return
    raise AssertionError(actions)


def carried_out(seen: View, action: Action) -> View:
    status = seen.status
    match action:
        case Add(joiner):
            voters = (*status.voters, Voter(joiner.id, joiner.address))
            status = replace(
                status,
                voters=voters,
                match=(*status.match, (joiner.id, 9)),
                heard=(*status.heard, (joiner.id, 0.1)),
            )
            others = tuple(
                replace(each, part=Part.VOTER, cluster="cluster") if each is joiner else each
                for each in seen.others
            )
            return replace(seen, status=status, others=others)
        case Remove(seat):
            voters = tuple(each for each in status.voters if each != seat.voter)
            return replace(seen, status=replace(status, voters=voters), removals=seen.removals + 1)
        case Dismiss(stray):
            others = tuple(
                replace(each, part=Part.CANDIDATE, id=f"{each.id}-again") if each is stray else each
                for each in seen.others
            )
            return replace(seen, others=others)
        case Raise(version):
            return replace(seen, agreed=version)
        case HandOver():
            return replace(seen, me=replace(seen.me, willing=True))
        case Rest():
            return seen


def test_one_agent_with_other_settings_does_not_shed_most_voters() -> None:
    seen = view("abcdefg", wanted=1)
    assert isinstance(decide(seen), Remove)
    assert isinstance(decide(replace(seen, removals=2)), Remove)
    assert isinstance(decide(replace(seen, removals=3)), Rest)
