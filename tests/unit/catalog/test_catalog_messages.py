"""The catalog's wire form: the round trip, and what strangers may send."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import zlib

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from constellation_core.catalog.digest import LiveDigest, fingerprint
from constellation_core.catalog.messages import (
    CatalogMessageError,
    Compare,
    DigestReply,
    Heard,
    Message,
    PullRequest,
    Updates,
    decode,
    encode,
)
from constellation_core.catalog.owners import Known, Update
from constellation_core.catalog.rows import MAX_ROW, Row, RowError, decode_row, instance_row
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True)
COUNTS = st.integers(0, 2**40)
PRINTABLE = st.text(max_size=20).filter(str.isprintable)


@st.composite
def instances(draw: st.DrawFn, node: str) -> Instance:
    service = draw(NAMES)
    return Instance(
        id=f"{service}.{node}",
        service=service,
        node=node,
        address=str(draw(st.ip_addresses())),
        ports=draw(st.dictionaries(NAMES, st.integers(1, 65_535), max_size=3)),
        health=draw(st.sampled_from([h for h in Health if h is not Health.UNREACHABLE])),
        weight=draw(st.integers(0, 1000)),
        tags=tuple(draw(st.lists(PRINTABLE, max_size=3))),
        version=draw(st.text("0123456789abcdef", max_size=12)),
        reason=draw(PRINTABLE),
        restarts=draw(st.integers(0, 1000)),
    )


@st.composite
def updates(draw: st.DrawFn) -> Update:
    owner = draw(NAMES)
    base = draw(COUNTS)
    rows = {
        row.key: row
        for row in (
            instance_row(each, base + 1) for each in draw(st.lists(instances(owner), max_size=4))
        )
    }
    if draw(st.booleans()):
        rows["s/gone"] = Row("s/gone", base, b"", None)
    return Update(owner, draw(COUNTS), base, base + 1, tuple(rows.values()))


KNOWN = st.builds(Known, COUNTS, COUNTS, st.integers(0, 2**32 - 1))
DIGESTS = st.dictionaries(NAMES, KNOWN, max_size=5)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    updates(),
    st.builds(Compare, NAMES, st.binary(min_size=8, max_size=8)),
    st.builds(DigestReply, DIGESTS),
    st.builds(PullRequest, DIGESTS, st.lists(updates(), max_size=2).map(tuple)),
    st.builds(Updates, st.lists(updates(), max_size=3).map(tuple)),
    st.builds(Heard, NAMES, KNOWN),
)


@given(MESSAGES)
def test_a_message_survives_the_round_trip(message: Message) -> None:
    assert decode(encode(message)) == message


@given(MESSAGES)
def test_no_message_can_be_taken_for_one_of_serf(message: Message) -> None:
    assert encode(message)[0] >= 0x80


@given(st.binary(max_size=300))
@example(b"")
@example(b"\xc1")
@example(b"\xc5\xdd\xff\xff\xff\xff")
@example(b"\xc4\x92\x90\x80")
def test_arbitrary_bytes_give_a_message_or_an_error(data: bytes) -> None:
    for first in (b"", b"\xc1", b"\xc3", b"\xc4", b"\xc5"):
        with contextlib.suppress(CatalogMessageError):
            decode(first + data)


@given(MESSAGES, st.data())
def test_a_mutated_message_gives_a_message_or_an_error(
    message: Message, data: st.DataObject
) -> None:
    mutated = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CatalogMessageError):
        decode(bytes(mutated[: data.draw(st.integers(0, len(mutated)))]))


def one_row(data: bytes) -> bytes:
    """An update of the owner ``a`` with one row."""
    return b"\xc1" + msgpack.packb(["a", 1, 0, 1, [["i/x.a", 1, data]]])


HOSTILE = {
    "empty lists": b"\xc5\xdd\x00\x0f\x00\x00" + b"\x90" * 0xF0000,
    "lists in lists": b"\xc5" + b"\xdd\x00\x00\x10\x00" * 100_000,
    "a row of empty lists": b"\xc1"
    + msgpack.packb(["a", 1, 0, 1, [["i/x.a", 1, b"\x90" * 16_000]]]),
    "a row of nested lists": b"\xc1"
    + msgpack.packb(["a", 1, 0, 1, [["i/x.a", 1, b"\xdd\x00\x00\x10\x00" * 3_000]]]),
    "a digest that claims all owners": b"\xc3\xdd\x00\x00\x27\x10" + b"\x93" * 1_000_000,
    "a digest that is a bomb": b"\xc3" + msgpack.packb(zlib.compress(bytes(50_000_000))),
    "a digest of nothing but separators": b"\xc3"
    + msgpack.packb(zlib.compress(struct.pack(">I", 1) + bytes(1_000_000))),
    "a map": b"\xc1\xdf\xff\xff\xff\xff" + bytes(1_000_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_cost_little_memory(name: str) -> None:
    tracemalloc.start()
    try:
        with contextlib.suppress(CatalogMessageError):
            decode(HOSTILE[name])
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


GOOD = msgpack.packb(["web", "10.0.0.1", {"http": 80}, 4, 1, [], "v", "", 0])


@pytest.mark.parametrize(
    ("key", "data", "reason"),
    [
        ("i/web.other", GOOD, "must be called SERVICE.a"),
        ("i/web.other", b"", "must be called SERVICE.a"),
        ("i/web.a.x", GOOD, "must be called SERVICE.a"),
        ("i/api.a", GOOD, "cannot be called so"),
        ("x/web", b"", "unknown kind"),
        ("x/web", GOOD, "unknown kind"),
        ("i/web.a", bytes(MAX_ROW + 1), "are allowed"),
        ("i/web.a", b"\xc1", "FormatError"),
        ("i/web.a", GOOD + b"\x00", "ExtraData"),
        ("i/web.a", msgpack.packb(["web", "nowhere", {}, 4, 1, [], "", "", 0]), "nowhere"),
        ("i/web.a", msgpack.packb(["web", "::1", {"http": 0}, 4, 1, [], "", "", 0]), "65535"),
        ("i/web.a", msgpack.packb(["web", "::1", {}, 6, 1, [], "", "\x1b[2J", 0]), "control"),
        ("i/web.a", msgpack.packb(["web", "::1", {}, 6, 1, ["a\nb"], "", "", 0]), "control"),
        ("i/web.a", msgpack.packb(["web", "::1", {}, 99, 1, [], "", "", 0]), "number"),
        ("i/web.a", msgpack.packb(["web", "::1", {}, 4, -1, [], "", "", 0]), "number"),
        ("i/web.a", msgpack.packb(["web", "::1", {}, 4, 1, ["x" * 999], "", "", 0]), "200"),
        ("i/We b.a", msgpack.packb(["We b", "::1", {}, 4, 1, [], "", "", 0]), "We b"),
        ("s/web", msgpack.packb({"name": "other"}), "s/web"),
        ("s/web", msgpack.packb([]), "s/web"),
    ],
)
def test_rows_that_no_node_may_publish_are_refused(key: str, data: bytes, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        decode_row("a", key, 1, data)


@given(st.text(max_size=300))
def test_what_a_check_says_is_made_fit_to_be_shown(text: str) -> None:
    instance = Instance("web.a", "web", "a", "::1", {}, Health.UNHEALTHY, reason=text)
    row = instance_row(instance, 1)
    assert isinstance(row.value, Instance)
    assert row.value.reason.isprintable()
    assert len(row.value.reason) == min(len(text), 200)


@pytest.mark.parametrize(
    "plain",
    [
        ["a", 1, 3, 2, []],
        ["a", 1, 0, 2, [["i/web.a", 3, GOOD]]],
        ["a", 1, -1, 2, []],
        ["", 1, 0, 2, []],
        ["a", 2**64 - 1, 0, 2, []],
    ],
)
def test_updates_that_make_no_sense_are_refused(plain: list[object]) -> None:
    with pytest.raises(CatalogMessageError):
        decode(b"\xc1" + msgpack.packb(plain))


@given(MESSAGES, st.binary(min_size=1, max_size=5))
def test_nothing_may_stand_behind_a_message(message: Message, more: bytes) -> None:
    with pytest.raises(CatalogMessageError):
        decode(encode(message) + more)


def test_one_bad_row_is_left_out_and_the_others_are_kept() -> None:
    plain = ["a", 1, 0, 2, [["i/web.a", 1, GOOD], ["i/web.b", 2, GOOD]]]
    update = decode(b"\xc1" + msgpack.packb(plain))
    assert isinstance(update, Update)
    assert [row.key for row in update.rows] == ["i/web.a"]
    assert update.damaged


def test_fingerprints_do_not_depend_on_the_order() -> None:
    one = {"a": Known(1, 2, 7), "b": Known(3, 4, 7)}
    assert fingerprint(one) == fingerprint(dict(reversed(one.items())))
    for other in (Known(3, 5, 7), Known(4, 4, 7), Known(3, 4, 8)):
        assert fingerprint(one) != fingerprint({**one, "b": other})


@given(st.lists(st.tuples(NAMES, st.none() | KNOWN), max_size=20))
def test_a_live_digest_has_the_fingerprint_of_what_is_in_it(
    steps: list[tuple[str, Known | None]],
) -> None:
    live = LiveDigest()
    for owner, known in steps:
        live.set(owner, known)
    assert live.fingerprint() == fingerprint(dict(live.known))
    assert live.known == {owner: known for owner, known in dict(steps).items() if known}
