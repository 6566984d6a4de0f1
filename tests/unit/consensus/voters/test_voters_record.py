"""What an agent remembers, and what a crash leaves of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.consensus.interface import Corrupt
from constellation_core.consensus.voters.builtin import BuiltinEngines
from constellation_core.consensus.voters.founding import Founder, Founding
from constellation_core.consensus.voters.memory import Memory
from constellation_core.consensus.voters.record import (
    Places,
    Record,
    candidate_id,
    read_record,
    remember,
    set_aside,
    write_record,
)
from constellation_core.consensus.voters.wire import (
    MAX_BYTES,
    Ask,
    Form,
    Prepare,
    Promise,
    Reply,
    Request,
    Retire,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)

ENGINES = BuiltinEngines(("127.0.0.1", 1), [bytes(32)])


def uuids() -> st.SearchStrategy[str]:
    return st.uuids().map(str)


@st.composite
def foundings(draw: st.DrawFn) -> Founding:
    made = st.builds(Founder, st.text(max_size=20), uuids(), st.text(max_size=30))
    each = draw(st.lists(made, min_size=1, max_size=9, unique_by=lambda founder: founder.id))
    split = draw(st.integers(1, len(each)))
    return Founding(
        draw(st.integers(1, 1 << 53)),
        draw(uuids()),
        tuple(sorted(each[:split])),
        tuple(sorted(each[split:])),
    )


def records() -> st.SearchStrategy[Record]:
    return st.builds(
        Record,
        st.none() | uuids(),
        st.lists(uuids(), max_size=3).map(tuple),
        st.lists(foundings(), max_size=4).map(tuple),
    )


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(tmp_path / "consensus")
    made.make()
    return made


@pytest.fixture
def ids() -> Iterator[str]:
    return (str(UUID(int=number)) for number in count(1))


def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    places = Places(tmp_path_factory.mktemp("record"))
    assert read_record(places) == Record()

    @given(records())
    def written(record: Record) -> None:
        write_record(places, record)
        assert read_record(places) == record

    written()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"version": 2}',
        b'{"version": 1, "cluster": "x", "former": [], "promises": []}',
        b'{"version": 1, "cluster": null, "former": [], "promises": [[0, "", [], []]]}',
        b'{"version": 1, "cluster": null, "former": 3, "promises": []}',
    ],
)
def test_a_damaged_record_is_refused(places: Places, content: bytes) -> None:
    places.node.write_bytes(content)
    with pytest.raises(Corrupt):
        read_record(places)


def test_a_candidate_id_lives_as_long_as_its_directory(places: Places, ids: Iterator[str]) -> None:
    first = candidate_id(places, ids.__next__)
    assert candidate_id(places, ids.__next__) == first
    set_aside(places)
    second = candidate_id(places, ids.__next__)
    assert second != first
    assert (places.removed / "candidate").read_text() == first
    set_aside(places)
    assert (places.removed / "candidate").read_text() == second


def test_a_voter_takes_the_candidates_id_and_leaves_none(
    places: Places, ids: Iterator[str]
) -> None:
    memory = Memory(places, ENGINES, ids.__next__)
    before = memory.id
    cluster = str(uuid4())
    memory.create(cluster, None)
    assert memory.identity == (cluster, before)
    assert not places.candidate.exists()
    again = Memory(places, ENGINES, ids.__next__)
    assert again.identity == (cluster, before)
    again.set_aside()
    assert again.identity is None
    assert again.id not in ("", before)
    assert Memory(places, ENGINES, ids.__next__).id == again.id


def test_a_crash_right_after_the_files_were_made_leaves_a_voter(
    places: Places, ids: Iterator[str]
) -> None:
    memory = Memory(places, ENGINES, ids.__next__)
    content = places.candidate.read_bytes()
    memory.create(str(uuid4()), None)
    places.candidate.write_bytes(content)
    assert Memory(places, ENGINES, ids.__next__).identity == memory.identity
    assert not places.candidate.exists()


def test_a_crash_while_a_voter_is_set_aside_leaves_a_candidate(
    places: Places, ids: Iterator[str]
) -> None:
    memory = Memory(places, ENGINES, ids.__next__)
    memory.create(str(uuid4()), None)
    places.voter.rename(places.removed)
    again = Memory(places, ENGINES, ids.__next__)
    assert again.identity is None
    assert again.id != memory.id


def test_the_voters_data_decide_which_cluster_it_is(places: Places, ids: Iterator[str]) -> None:
    memory = Memory(places, ENGINES, ids.__next__)
    old, new = str(uuid4()), str(uuid4())
    memory.remember(Record(old))
    memory.create(new, None)
    assert Memory(places, ENGINES, ids.__next__).record == Record(new, (old,))


def test_a_founder_knows_by_which_founding_it_began(places: Places, ids: Iterator[str]) -> None:
    memory = Memory(places, ENGINES, ids.__next__)
    founding = Founding(1, str(uuid4()), (Founder("a", memory.id, "127.0.0.1:7947"),))
    memory.remember(Record(promises=(founding,)))
    assert memory.founding is None
    memory.create(founding.cluster, founding)
    assert memory.founding == founding
    memory.set_aside()
    assert memory.founding is None


def test_a_restored_cluster_is_remembered_with_what_it_was(tmp_path: Path) -> None:
    old, new = str(uuid4()), str(uuid4())
    remember(tmp_path / "fresh", new, (old,))
    assert read_record(Places(tmp_path / "fresh")) == Record(new, (old,))


def test_a_cluster_that_is_left_and_come_back_to_is_not_a_former_one() -> None:
    one, two = str(uuid4()), str(uuid4())
    record = Record().belongs_to(one).belongs_to(two).belongs_to(two)
    assert record == Record(two, (one,))
    assert record.belongs_to(one) == Record(one, (two,))


def requests() -> st.SearchStrategy[Request]:
    return st.one_of(
        st.just(Ask()),
        st.builds(Promise, foundings()),
        st.builds(Form, foundings()),
        st.builds(Prepare, uuids(), uuids()),
        st.builds(Retire, uuids(), uuids(), st.integers(0, (1 << 63) - 1)),
    )


@given(requests())
def test_requests_arrive_as_they_were_sent(request: Request) -> None:
    data = encode_request(request)
    assert decode_request(data) == request
    assert len(data) < MAX_BYTES


@given(
    st.builds(
        Reply,
        st.booleans(),
        st.text(max_size=200),
        st.integers(0, 1 << 53),
        uuids(),
        st.text(max_size=60),
        st.none() | uuids(),
        st.lists(uuids(), max_size=3).map(tuple),
        st.none() | foundings(),
        st.booleans(),
    )
)
def test_replies_arrive_as_they_were_sent(reply: Reply) -> None:
    assert decode_reply(encode_reply(reply)) == reply


@given(st.binary(max_size=200) | requests().map(encode_request), st.integers(0, 300), st.binary())
def test_what_is_no_request_is_refused_and_nothing_else_happens(
    data: bytes, at: int, noise: bytes
) -> None:
    spoiled = data[:at] + noise + data[at + 1 :]
    for decode in (decode_request, decode_reply):
        try:
            decode(spoiled)
        except ValueError:
            continue


def test_what_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(ValueError, match="too long"):
        decode_request(bytes(MAX_BYTES + 1))
