"""What agents tell each other of their part in consensus, and what is believed of it."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.agent.consensus.tags import TAG, Told, backend_of, decode, encode
from constellation_core.consensus.voters.network import Part
from constellation_core.consensus.voters.status import Standing
from constellation_core.gossip import encode_tags

UUIDS = st.uuids().map(str)
ADDRESSES = st.one_of(
    st.tuples(st.ip_addresses(v=4).map(str), st.integers(1, 65_535)).map(
        lambda a: f"{a[0]}:{a[1]}"
    ),
    st.tuples(st.ip_addresses(v=6).map(str), st.integers(1, 65_535)).map(
        lambda a: f"[{a[0]}]:{a[1]}"
    ),
)
STANDINGS = st.builds(
    Standing,
    part=st.sampled_from(Part),
    willing=st.booleans(),
    id=UUIDS,
    address=ADDRESSES,
    cluster=st.none() | UUIDS,
    wanted=st.sampled_from((1, 3, 5, 7)),
    operations=st.integers(0, 10_000),
    former=st.just(()),
    doing=st.text(),
    problems=st.just(()),
)
WORST = Standing(
    Part.CANDIDATE,
    True,
    str(UUID(int=2**128 - 1)),
    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
    str(UUID(int=2**128 - 1)),
    7,
    10_000,
)


@given(STANDINGS, st.none() | st.integers(0, 10**12 - 1))
def test_what_is_told_is_what_is_heard(standing: Standing, term: int | None) -> None:
    assert decode(encode(standing, term)) == Told(
        standing.part,
        standing.willing,
        standing.wanted,
        standing.operations,
        standing.id,
        standing.cluster,
        standing.address,
        term,
    )


def test_all_tags_of_an_agent_fit_into_memberlists_metadata() -> None:
    tag = encode(WORST, 10**12 - 1)
    assert len(tag) <= 170
    tags = {
        TAG: tag,
        "version": "10.100.1000rc10",
        "born": "f" * 8,
        "epoch": "f" * 8,
        "region": "r" * 63,
        "api": "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
    }
    assert len(encode_tags(tags)) <= 512


@given(st.text(max_size=200))
def test_nonsense_is_no_part(text: str) -> None:
    told = decode(text)
    assert told is None or told.wanted in (1, 3, 5, 7)


GOOD = encode(WORST, 3)


@pytest.mark.parametrize(
    ("word", "bad"),
    [
        (0, "etcd"),
        (1, "v"),
        (1, "x+"),
        (1, "v?"),
        (2, "4"),
        (2, "-3"),
        (2, "³"),
        (3, "99999"),
        (4, "f" * 31),
        (4, "g" * 32),
        (5, "none"),
        (6, "example.com:7947"),
        (6, "10.0.0.1:0"),
        (6, "10.0.0.1:65536"),
        (6, "10.0.0.1"),
        (7, "9" * 13),
        (7, "-1"),
    ],
)
def test_one_bad_word_is_enough_to_believe_nothing(word: int, bad: str) -> None:
    assert decode(GOOD) is not None
    words = GOOD.split(" ")
    words[word] = bad
    assert decode(" ".join(words)) is None


def test_another_backend_is_known_by_its_name() -> None:
    assert backend_of("etcd") == "etcd"
    assert backend_of(GOOD) == "raft"
    assert backend_of("") == ""
