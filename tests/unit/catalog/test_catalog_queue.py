"""Updates that wait to be broadcast: what goes first, what takes whose place, what is dropped."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from constellation_core.catalog.budget import TokenBucket
from constellation_core.catalog.queue import UpdateQueue
from constellation_core.catalog.urgency import Urgency

PUTS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 9),
        st.integers(0, 4),
        st.integers(1, 400),
        st.sampled_from(Urgency),
    ),
    max_size=40,
)


@given(PUTS, st.integers(300, 2_000), st.integers(1, 5))
def test_the_queue_is_bounded_and_sends_each_update_so_often(
    puts: list[tuple[str, int, int, int, Urgency]], most: int, limit: int
) -> None:
    queue = UpdateQueue(most)
    for number, (owner, base, more, size, urgency) in enumerate(puts):
        payload = bytes((number,)) * size
        queue.put(owner, base, base + more, payload, urgency)
    sent: dict[bytes, int] = {}
    total = 0
    for _ in range(40 * 5):
        for payload in queue.take(1_000, 10_000, 3, limit):
            sent[payload] = sent.get(payload, 0) + 1
            total += len(payload)
    assert len(queue) == 0
    assert total <= most * limit
    assert all(times == limit for times in sent.values())


@given(PUTS)
def test_the_heap_does_not_outgrow_what_waits(
    puts: list[tuple[str, int, int, int, Urgency]],
) -> None:
    queue = UpdateQueue()
    for _ in range(5):
        for owner, base, more, size, urgency in puts:
            queue.put(owner, base, base + more, bytes(size), urgency)
    assert len(queue._heap) <= 2 * queue._waiting + 9
    for owner in "abc":
        queue.drop(owner)
    assert (len(queue), queue._bytes, queue._waiting) == (0, 0, 0)
    assert queue.take(1_000, 1_000, 3, 9) == []


def test_the_most_urgent_goes_first_then_what_was_sent_least_then_the_newest() -> None:
    queue = UpdateQueue()
    queue.put("a", 1, 2, b"metadata", Urgency.METADATA)
    queue.put("b", 1, 2, b"ok-1", Urgency.OK)
    queue.put("c", 1, 2, b"ok-2", Urgency.OK)
    queue.put("d", 1, 2, b"failing", Urgency.FAILING)
    queue.put("e", 1, 2, b"new", Urgency.NEW)
    assert queue.take(1_000, 1_000, 0, 9) == [b"failing", b"new", b"ok-2", b"ok-1", b"metadata"]
    queue.put("f", 1, 2, b"ok-3", Urgency.OK)
    assert queue.take(15, 1_000, 0, 9) == [b"failing", b"new", b"ok-3"]


def test_what_contains_another_takes_its_place_and_its_urgency() -> None:
    queue = UpdateQueue()
    queue.put("a", 5, 6, b"failing", Urgency.FAILING)
    queue.put("a", 4, 5, b"before", Urgency.METADATA)
    queue.put("b", 1, 2, b"new", Urgency.NEW)
    assert queue.oldest_base("a") == 4
    queue.put("a", 5, 7, b"both", Urgency.METADATA)
    assert queue.take(1_000, 1_000, 0, 9) == [b"both", b"new", b"before"]
    queue.put("a", 0, 8, b"all", Urgency.METADATA)
    assert queue.take(1_000, 1_000, 0, 9) == [b"all", b"new"]
    assert queue.oldest_base("a") == 0
    assert queue.oldest_base("x") is None


def test_nothing_overtakes_what_only_waits_for_tokens() -> None:
    queue = UpdateQueue()
    queue.put("a", 0, 1, bytes(500), Urgency.FAILING)
    queue.put("b", 0, 1, b"small", Urgency.METADATA)
    assert queue.take(1_000, 400, 0, 9) == []
    assert queue.take(100, 600, 0, 9) == [b"small"]
    assert queue.take(1_000, 600, 0, 9)[0] == bytes(500)


def test_overflow_drops_the_least_urgent_and_is_counted() -> None:
    queue = UpdateQueue(1_000)
    queue.put("a", 0, 1, bytes(400), Urgency.METADATA)
    queue.put("b", 0, 1, bytes(400), Urgency.FAILING)
    queue.put("c", 0, 1, bytes(400), Urgency.OK)
    assert queue.overflowed == 1
    assert len(queue.take(1_000, 1_000, 0, 9)) == 2
    assert queue.oldest_base("a") is None


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 2_000)), max_size=50))
def test_the_bucket_gives_no_more_than_its_rate(steps: list[tuple[float, int]]) -> None:
    bucket = TokenBucket(1_000, 2_000)
    now = spent = 0.0
    for seconds, wish in steps:
        now += seconds
        amount = min(wish, bucket.available(now))
        bucket.spend(amount)
        spent += amount
        assert spent <= 2_000 + 1_000 * now + 1
