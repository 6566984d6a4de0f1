"""A backup is whole or refused."""

from __future__ import annotations

import hashlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation_core.consensus.backups import Backup, decode_backup, encode_backup

BACKUP = Backup(str(UUID(int=7)), 41, 1_800_000_000.5, b"the state")
BACKUPS = st.builds(
    Backup,
    st.uuids().map(str),
    st.integers(0, (1 << 63) - 1),
    st.floats(0, 4e9),
    st.binary(max_size=50),
)


@given(BACKUPS)
def test_a_backup_comes_back_as_it_was(backup: Backup) -> None:
    assert decode_backup(encode_backup(backup)) == backup


def test_a_flipped_bit_anywhere_is_found() -> None:
    data = encode_backup(BACKUP)
    for offset in range(len(data)):
        damaged = bytearray(data)
        damaged[offset] ^= 1 << offset % 8
        with pytest.raises(ValueError, match=r"checksum|not a backup"):
            decode_backup(bytes(damaged))


def test_one_that_is_cut_short_is_refused() -> None:
    data = encode_backup(BACKUP)
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"checksum|not a backup"):
            decode_backup(data[:length])


@given(st.binary(max_size=100), st.booleans())
def test_what_is_no_backup_is_refused(data: bytes, digested: bool) -> None:
    if digested:
        body = b"CNSTBKP1" + data
        data = body + hashlib.sha256(body).digest()
    try:
        found = decode_backup(data)
    except ValueError:
        return
    assert encode_backup(found) == data
