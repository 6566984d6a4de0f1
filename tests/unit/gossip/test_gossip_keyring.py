"""The keyring: what one key seals only a ring with this key opens; keys never show."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.gossip.keyring import OVERHEAD, DecryptError, Keyring, KeyringError

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32
KEYS = st.sampled_from([16, 24, 32]).flatmap(
    lambda length: st.binary(min_size=length, max_size=length)
)


@given(KEYS, st.binary(max_size=500), st.binary(max_size=20))
def test_round_trip(key: bytes, plaintext: bytes, associated: bytes) -> None:
    sealed = Keyring([key]).encrypt(plaintext, associated)
    assert len(sealed) == len(plaintext) + OVERHEAD
    assert Keyring([key]).decrypt(sealed, associated) == plaintext


def test_every_key_of_the_ring_opens_and_the_first_seals() -> None:
    before, between, after = Keyring([OLD]), Keyring([NEW, OLD]), Keyring([NEW])
    assert between.decrypt(before.encrypt(b"hello")) == b"hello"
    assert after.decrypt(between.encrypt(b"hello")) == b"hello"
    with pytest.raises(DecryptError):
        before.decrypt(between.encrypt(b"hello"))


def test_another_key_opens_nothing() -> None:
    with pytest.raises(DecryptError, match="no key of this node"):
        Keyring([OLD, NEW]).decrypt(Keyring([OTHER]).encrypt(b"hello"))


def test_other_associated_data_opens_nothing() -> None:
    with pytest.raises(DecryptError):
        Keyring([OLD]).decrypt(Keyring([OLD]).encrypt(b"hello", b"a"), b"b")


@given(st.binary(max_size=80))
def test_arbitrary_bytes_give_a_decrypt_error(data: bytes) -> None:
    with pytest.raises(DecryptError):
        Keyring([OLD]).decrypt(data)


@given(st.integers(0, OVERHEAD + 4), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position: int, change: int) -> None:
    sealed = bytearray(Keyring([OLD]).encrypt(b"hello"))
    sealed[position] ^= change
    with pytest.raises(DecryptError):
        Keyring([OLD]).decrypt(bytes(sealed))


def version_zero(padded: bytes) -> bytes:
    return b"\x00" + bytes(12) + AESGCM(OLD).encrypt(bytes(12), padded, None)


def test_the_padding_of_version_zero_is_taken_off() -> None:
    assert Keyring([OLD]).decrypt(version_zero(b"hello" + bytes([11]) * 11)) == b"hello"


@pytest.mark.parametrize("padded", [b"", b"hello" + bytes(11), b"\x11" * 17, b"ab\x03", b"\x02"])
def test_bad_padding_is_refused(padded: bytes) -> None:
    with pytest.raises(DecryptError, match="padding"):
        Keyring([OLD]).decrypt(version_zero(padded))


@pytest.mark.parametrize("length", [0, 15, 31, 33, 64])
def test_keys_of_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"not {length}"):
        Keyring([bytes(length)])


def test_a_ring_without_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a key"):
        Keyring([])


def test_keys_do_not_show() -> None:
    ring = Keyring([OLD, NEW])
    for text in (repr(ring), str(ring), ring.fingerprint):
        assert "oooo" not in text
        assert OLD.hex()[:8] not in text
    assert ring.fingerprint == Keyring([OLD]).fingerprint != Keyring([NEW]).fingerprint


def test_no_nonce_is_used_twice() -> None:
    ring = Keyring([OLD])
    assert len({ring.encrypt(b"")[1:13] for _ in range(1000)}) == 1000


def test_a_rotation_in_three_steps_never_parts_two_nodes() -> None:
    one, other = Keyring([OLD]), Keyring([OLD])

    def both_understand() -> None:
        assert one.decrypt(other.encrypt(b"hello")) == b"hello"
        assert other.decrypt(one.encrypt(b"hello")) == b"hello"

    steps = (
        lambda ring: ring.add(NEW),
        lambda ring: ring.use(NEW),
        lambda ring: ring.remove(OLD),
    )
    for step in steps:
        for ring in (one, other):
            step(ring)
            both_understand()
    assert one.keys == other.keys == (NEW,)
    with pytest.raises(DecryptError):
        one.decrypt(Keyring([OLD]).encrypt(b"hello"))


def test_what_is_done_already_changes_nothing() -> None:
    ring = Keyring([OLD, NEW])
    ring.add(NEW)
    ring.use(OLD)
    ring.remove(OTHER)
    assert ring.keys == (OLD, NEW)


def test_the_primary_key_stays_and_only_a_key_of_the_ring_becomes_one() -> None:
    ring = Keyring([OLD, NEW])
    with pytest.raises(KeyringError, match="in use"):
        ring.remove(OLD)
    with pytest.raises(KeyringError, match="not on the ring"):
        ring.use(OTHER)
    with pytest.raises(ValueError, match="not 3"):
        ring.add(b"abc")
    assert ring.keys == (OLD, NEW)
    assert ring.fingerprint == Keyring([OLD]).fingerprint
