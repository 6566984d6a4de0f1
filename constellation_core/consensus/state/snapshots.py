"""The whole state as bytes: the same state always as the same bytes."""

from __future__ import annotations

from dataclasses import dataclass

import msgpack

from constellation_core.consensus.state.entries import Entries, key_fits
from constellation_core.consensus.state.leases import Held, LeaseTable
from constellation_core.consensus.state.limits import MAX_TTL, MIN_TTL
from constellation_core.consensus.state.sessions import Session, Sessions

_FORMAT = 1
_MAX_COUNT = 1 << 62
"""No counter comes near it. One beyond would be restored, and could not be written again."""


@dataclass(slots=True)
class Contents:
    """All that is replicated.

    Attributes:
        version: operations up to this one are allowed.
        revision: counts the changes of entries and of who holds a lease.
        entries: keys and values.
        leases: who holds what.
        sessions: the results of requests.
    """

    version: int
    revision: int
    entries: Entries
    leases: LeaseTable
    sessions: Sessions

    @classmethod
    def empty(cls) -> Contents:
        """What a new cluster begins with."""
        return cls(1, 0, Entries(), LeaseTable(), Sessions())


def dump(contents: Contents) -> bytes:
    """The bytes of ``contents``."""
    packed: bytes = msgpack.packb(
        [
            _FORMAT,
            contents.version,
            contents.revision,
            contents.leases.epoch,
            contents.sessions.last,
            [[entry.key, entry.value, entry.revision] for entry in contents.entries],
            [
                [held.name, held.holder, held.epoch, held.ttl, held.renewals, held.revision]
                for held in contents.leases.all()
            ],
            list(contents.leases.released()),
            [
                [number, session.floor, [list(each) for each in sorted(session.results.items())]]
                for number, session in contents.sessions
            ],
        ]
    )
    return packed


def load(data: bytes) -> Contents:
    """The contents that have these bytes.

    Raises:
        ValueError: for bytes that :func:`dump` does not give.
    """
    try:
        items = msgpack.unpackb(data, raw=False, use_list=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise ValueError("a snapshot that is not MessagePack") from error
    match items:
        case [
            1,
            int(version),
            int(revision),
            int(epoch),
            int(last),
            list(entries),
            list(leases),
            list(released),
            list(sessions),
        ] if all(0 <= each <= _MAX_COUNT for each in (version, revision, epoch, last)):
            contents = Contents(version, revision, Entries(), LeaseTable(epoch), Sessions(last))
        case _:
            raise ValueError("a snapshot of another format")
    for item in entries:
        _load_entry(contents, item)
    for item in leases:
        _load_lease(contents, item)
    for item in released:
        if not (isinstance(item, str) and key_fits(item)):
            raise ValueError("a snapshot with a name that is none")
        contents.leases.remember_release(item)
    for item in sessions:
        _load_session(contents, item)
    # One comparison finds every order, duplicate and number that should not be.
    if dump(contents) != data:
        raise ValueError("a snapshot that is not in its canonical form")
    return contents


def _load_entry(contents: Contents, item: object) -> None:
    match item:
        case [str(key), bytes(value), int(revision)] if (
            key_fits(key) and 0 < revision <= contents.revision
        ):
            contents.entries.put(key, value, revision)
        case _:
            raise ValueError("a snapshot with an entry that is none")


def _load_lease(contents: Contents, item: object) -> None:
    match item:
        case [str(name), str(holder), int(epoch), int(ttl), int(renewals), int(revision)] if (
            key_fits(name)
            and key_fits(holder)
            and MIN_TTL <= ttl <= MAX_TTL
            and 0 <= renewals <= _MAX_COUNT
            and 0 < epoch <= contents.leases.epoch
            and 0 < revision <= contents.revision
            and contents.leases.with_epoch(epoch) is None
        ):
            contents.leases.restore(Held(name, holder, epoch, ttl, renewals, revision))
        case _:
            raise ValueError("a snapshot with a lease that is none")


def _load_session(contents: Contents, item: object) -> None:
    match item:
        case [int(number), int(floor), list(results)] if 0 < number <= contents.sessions.last:
            session = Session(floor)
            for each in results:
                match each:
                    case [int(sequence), bytes(result)]:
                        session.results[sequence] = result
                    case _:
                        raise ValueError("a snapshot with a result that is none")
            contents.sessions.restore(number, session)
        case _:
            raise ValueError("a snapshot with a session that is none")
