"""The promises that keep two clusters from being founded."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.consensus.voters.founding import (
    Founder,
    Founding,
    RefusedError,
    check_write,
    hopeless,
    promise,
    propose,
)


def founder(name: str) -> Founder:
    return Founder(name, f"id-{name}", f"10.0.0.1:{ord(name)}")


def founding(order: int, names: str, witnesses: str = "", cluster: str = "") -> Founding:
    return Founding(
        order,
        cluster or f"cluster-{order}-{names}",
        tuple(founder(each) for each in sorted(names)),
        tuple(founder(each) for each in sorted(witnesses)),
    )


def refusal(me: str, promises: tuple[Founding, ...], asked: Founding) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        promise(f"id-{me}", promises, asked)
    return refused.value


def may_write(me: str, promises: tuple[Founding, ...], told: Founding, lives: bool = False) -> bool:
    try:
        check_write(me, promises, told, lives=lives)
    except RefusedError:
        return False
    return True


def test_a_first_founding_is_promised_and_may_be_repeated() -> None:
    asked = founding(1, "abc")
    promises = promise("id-b", (), asked)
    assert promises == (asked,)
    assert promise("id-b", promises, asked) == promises
    assert may_write("id-b", promises, asked)


def test_who_is_not_named_promises_nothing() -> None:
    assert "another id" in str(refusal("d", (), founding(1, "abc")))


def test_an_earlier_founding_is_not_promised_after_a_later_one() -> None:
    later = founding(2, "abc")
    refused = refusal("b", (later,), founding(1, "abc"))
    assert refused.order == 2
    assert refused.blocking is None


def test_of_two_foundings_of_one_order_the_cluster_decides() -> None:
    low, high = founding(1, "abc", cluster="c1"), founding(1, "abc", cluster="c2")
    assert refusal("b", (high,), low).order == 1
    assert promise("id-b", (low,), high) == (high,)


def test_a_later_founding_needs_most_of_the_founders_of_the_earlier_one() -> None:
    earlier = founding(1, "abc")
    assert promise("id-b", (earlier,), founding(2, "bcd"))[-1] == founding(2, "bcd")
    refused = refusal("c", (earlier,), founding(2, "cde"))
    assert refused.blocking == earlier
    assert promise("id-c", (earlier,), founding(2, "cde", "b")) == (
        earlier,
        founding(2, "cde", "b"),
    )


def test_not_only_the_last_promise_counts() -> None:
    first, second = founding(1, "abc"), founding(2, "bcd")
    promises = promise("id-c", promise("id-c", (), first), second)
    assert refusal("c", promises, founding(3, "cde")).blocking == first


def test_what_one_proposed_oneself_and_did_not_write_is_no_obstacle() -> None:
    mine = founding(1, "abc")
    assert promise("id-a", (mine,), founding(2, "ade"))[-1] == founding(2, "ade")


def test_only_the_last_promise_may_be_written_and_no_witness_writes() -> None:
    first, second = founding(1, "abc"), founding(2, "bcd", "a")
    promises = promise("id-b", (first,), second)
    assert not may_write("id-b", promises, first)
    assert may_write("id-b", promises, second)
    assert not may_write("id-a", promise("id-a", (first,), second), second)
    assert not may_write("id-b", (), first)


def test_what_came_to_life_may_be_written_whatever_was_promised_since() -> None:
    first, second = founding(1, "abc"), founding(2, "bcd")
    assert may_write("id-b", (first, second), first, lives=True)
    assert not may_write("id-z", (first, second), first, lives=True)


def test_who_refuses_to_write_says_whether_for_ever() -> None:
    first, second = founding(1, "abc"), founding(2, "abc")
    for me, promises, told, never in (
        ("id-b", (second,), first, True),
        ("id-z", (first,), first, True),
        ("id-b", (first,), second, False),
        ("id-b", (), first, False),
    ):
        with pytest.raises(RefusedError) as refused:
            check_write(me, promises, told)
        assert refused.value.never is never


@pytest.mark.parametrize(
    ("names", "never", "lost"),
    [("a", "", False), ("abc", "b", False), ("abc", "bc", True), ("abcde", "cde", True)],
)
def test_a_founding_is_hopeless_without_a_majority(names: str, never: str, lost: bool) -> None:
    assert hopeless(founding(1, names), frozenset(f"id-{each}" for each in never)) is lost


def test_who_was_refused_proposes_above_what_the_others_promised() -> None:
    who = founding(1, "abc").founders
    first = propose("x", who, (), (), 0)
    assert first == Founding(1, "x", who)
    assert propose("y", who, (), (first,), 0) == first
    assert propose("y", who, (), (first,), 1) == Founding(2, "y", who)
    assert propose("y", who, (founder("d"),), (first,), 0) == Founding(2, "y", who, (founder("d"),))


class Model:
    """Agents that keep the rules, and everything else left to chance.

    Any agent proposes any founding at any time, requests arrive in any order, late, repeatedly
    or never, and what an agent has proposed it may forget.
    """

    def __init__(self, random: Random, agents: str) -> None:
        self.random = random
        self.agents = agents
        self.promises: dict[str, tuple[Founding, ...]] = dict.fromkeys(agents, ())
        self.wrote: dict[str, Founding] = {}
        self.foundings: list[Founding] = []
        self.agreed: dict[Founding, set[str]] = {}
        self.blocking: set[str] = set()

    def step(self) -> None:
        match self.random.randrange(8):
            case 0:
                self._propose()
            case 1 | 2 | 3 | 4:
                self._ask()
            case _:
                self._write()

    def _propose(self) -> None:
        size = self.random.choice([1, 3, 3, 3, 5])
        if size > len(self.agents):
            return
        names = "".join(sorted(self.random.sample(self.agents, size)))
        if names[0] in self.wrote:
            return
        others = [each for each in self.agents if each not in names]
        witnesses = self.random.sample(others, self.random.randint(0, len(others)))
        if self.random.random() < 0.5:
            witnesses = [each for each in others if each in self.blocking]
        heard = max((each.order for each in self.foundings), default=0)
        made = founding(
            self.random.randint(1, heard + 1),
            names,
            "".join(witnesses),
            f"cluster-{len(self.foundings)}-{self.random.random()}",
        )
        self.foundings.append(made)
        self.agreed[made] = set()

    def _ask(self) -> None:
        if not self.foundings:
            return
        # Mostly recent ones.
        asked = self.random.choice(self.foundings[-self.random.choice([1, 2, 4, 50]) :])
        whom = self.random.choice([*asked.founders, *asked.witnesses]).name
        if whom in self.wrote:
            return
        try:
            self.promises[whom] = promise(f"id-{whom}", self.promises[whom], asked)
        except RefusedError as refused:
            if refused.blocking is not None:
                self.blocking |= {each.name for each in refused.blocking.founders}
            return
        self.agreed[asked].add(whom)

    def _write(self) -> None:
        if not self.foundings:
            return
        told = self.random.choice(self.foundings)
        whom = self.random.choice(told.founders).name
        first = told.founders[0].name
        lives = told in self.alive()
        if whom in self.wrote or not may_write(f"id-{whom}", self.promises[whom], told, lives):
            return
        all_promised = len(self.agreed[told]) == len(told.bound)
        if all_promised if whom == first else self.wrote.get(first) == told:
            self.wrote[whom] = told

    def alive(self) -> list[Founding]:
        """Those that a majority of the founders have written."""
        return [
            each
            for each in self.foundings
            if 2 * sum(self.wrote.get(f.name) == each for f in each.founders) > len(each.founders)
        ]

    def check(self) -> None:
        alive = self.alive()
        for number, one in enumerate(alive):
            for other in alive[:number]:
                assert not one.bound & other.bound, f"{one} and {other}"


def test_of_foundings_that_share_an_agent_only_one_comes_to_life() -> None:
    alive = later = 0
    for seed in range(3000):
        random = Random(seed)
        model = Model(random, "abcdefg"[: random.randint(3, 7)])
        for _ in range(random.choice([40, 150])):
            model.step()
        model.check()
        alive += bool(model.alive())
        later += any(len(promises) > 1 for promises in model.promises.values())
    # Else nothing was tried.
    assert alive > 500
    assert later > 500


@given(st.randoms(use_true_random=False), st.integers(1, 7))
def test_promises_only_rise_and_none_that_binds_is_forgotten(random: Random, size: int) -> None:
    model = Model(random, "abcdefg"[:size])
    for _ in range(60):
        before = dict(model.promises)
        model.step()
        for agent, promises in model.promises.items():
            if before[agent]:
                assert promises[-1].rank >= before[agent][-1].rank
            for each in before[agent]:
                kept = any(each.ids == other.ids for other in promises)
                assert kept or each.founders[0].name == agent
