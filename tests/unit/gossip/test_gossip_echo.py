"""Which address a node tells others: what peers saw, and never a container bridge."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from constellation_core.gossip.echo import (
    ID_LENGTH,
    Echo,
    answer,
    choose_address,
    is_question,
    question,
    read_answer,
)

ME = b"m" * ID_LENGTH
OTHER = b"o" * ID_LENGTH


@given(st.ip_addresses())
def test_an_answer_tells_the_address(address: object) -> None:
    told = read_answer(answer(str(address), OTHER), ME)
    assert told is not None
    assert told in (str(address), str(getattr(address, "ipv4_mapped", None)))


def test_our_own_answer_is_none() -> None:
    assert read_answer(answer("10.0.0.1", ME), ME) is None


@given(st.binary(max_size=40))
def test_other_bytes_are_no_answer_or_an_address(payload: bytes) -> None:
    read_answer(payload, ME)
    assert is_question(payload) == (payload[:1] == question())


def usable(host: str) -> bool:
    return host in ("10.0.0.5", "192.168.1.5", "127.0.0.1")


def echo(seen: str, local: str = "10.0.0.5", peer: str = "peer:1") -> Echo:
    return Echo(peer, local, seen)


def test_what_peers_see_wins_over_the_guess() -> None:
    choice = choose_address("192.168.1.5", [echo("10.0.0.5")], usable)
    assert choice.host == "10.0.0.5"
    assert not choice.warning


def test_a_bridge_is_never_chosen() -> None:
    choice = choose_address("192.168.1.5", [echo("172.17.0.1", local="172.17.0.1")], usable)
    assert choice.host == "192.168.1.5"
    assert "172.17.0.1" in choice.warning


def test_behind_nat_the_own_address_on_the_way_is_told_and_the_operator_warned() -> None:
    echoes = [echo("203.0.113.9"), echo("203.0.113.9", peer="peer:2")]
    choice = choose_address("192.168.1.5", echoes, usable)
    assert choice.host == "10.0.0.5"
    assert "[gossip] advertise" in choice.warning
    assert "peer:2" in choice.warning


def test_loopback_only_where_all_are_on_this_host() -> None:
    both = [echo("127.0.0.1", local="127.0.0.1"), echo("10.0.0.5")]
    assert choose_address("192.168.1.5", both, usable).host == "10.0.0.5"
    assert choose_address("192.168.1.5", both[:1], usable).host == "127.0.0.1"


hosts = st.sampled_from(["10.0.0.5", "192.168.1.5", "127.0.0.1", "172.17.0.1", "203.0.113.9"])


@given(
    st.sampled_from(["10.0.0.5", "192.168.1.5"]),
    st.lists(st.builds(Echo, st.just("p"), hosts, hosts)),
)
def test_whatever_peers_say_the_address_is_one_of_ours(guess: str, echoes: list[Echo]) -> None:
    assert usable(choose_address(guess, echoes, usable).host)
