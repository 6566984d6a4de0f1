"""Carries out operations: the state machine that an engine drives."""

from __future__ import annotations

from constellation_core.consensus.state import snapshots
from constellation_core.consensus.state.changes import ChangeLog
from constellation_core.consensus.state.entries import key_fits
from constellation_core.consensus.state.leases import Held
from constellation_core.consensus.state.limits import MAX_JUMP, MAX_LEASES, MAX_TTL, MIN_TTL
from constellation_core.consensus.state.operations import (
    LATEST,
    Acquire,
    Delete,
    Expire,
    Header,
    MalformedError,
    OpenSession,
    Operation,
    Put,
    RaiseVersion,
    Recover,
    Release,
    Renew,
    decode_header,
    decode_operation,
)
from constellation_core.consensus.state.queries import Answer, Entry, Query, Space
from constellation_core.consensus.state.results import (
    Conflict,
    Done,
    Granted,
    HeldByOther,
    Opened,
    Reason,
    Refused,
    Renewed,
    Result,
    encode_result,
)
from constellation_core.consensus.state.snapshots import Contents


class OutdatedError(RuntimeError):
    """The voters agreed on operations that this code does not know; it has to be updated."""


class ReplicatedState:
    """A :class:`~constellation_core.consensus.interface.StateMachine`.

    Keys and values, leases and the results of requests. All methods are to be called on one
    thread.

    Voters with different code carry out the same: an operation whose version is above the one
    that was agreed on (:class:`~.operations.RaiseVersion`) is refused by all of them alike. Code
    that does not know the version that is agreed on gives no answer from then on.

    Args:
        supported: the version of operations up to which the code knows all kinds.
    """

    def __init__(self, supported: int = LATEST) -> None:
        self._supported = supported
        self._contents = Contents.empty()
        self._changes = ChangeLog()
        self._outdated = False

    def apply(self, index: int, operation: bytes) -> bytes:  # noqa: ARG002
        """Carry out ``operation``; the bytes of a :class:`~.results.Result`."""
        if self._outdated:
            return encode_result(Refused(Reason.OUTDATED))
        try:
            header = decode_header(operation)
            if header.version > self._contents.version:
                return encode_result(Refused(Reason.NOT_ENABLED))
            asked = decode_operation(header)
        except MalformedError:
            return encode_result(Refused(Reason.MALFORMED))
        return self._once(header, asked)

    def snapshot(self) -> bytes:
        """All of the state.

        Raises:
            OutdatedError: it is not known.
        """
        self._check()
        return snapshots.dump(self._contents)

    def restore(self, snapshot: bytes) -> None:
        """Become what :meth:`snapshot` gave; unchanged when that fails.

        Raises:
            ValueError: for a snapshot that is none, or of a version that is not known.
        """
        contents = snapshots.load(snapshot)
        if contents.version > self._supported:
            raise ValueError(f"the snapshot needs operations of version {contents.version}")
        self._contents = contents
        self._changes = ChangeLog(contents.revision)
        self._outdated = False

    @property
    def revision(self) -> int:
        """Counts the changes of entries and of who holds a lease."""
        return self._contents.revision

    @property
    def version(self) -> int:
        """Operations up to this version are allowed."""
        return self._contents.version

    @property
    def counted(self) -> int:
        """The lowest of the counters that :class:`~.operations.Recover` moves."""
        contents = self._contents
        return min(contents.leases.epoch, contents.sessions.last, contents.revision)

    def leases(self) -> tuple[Held, ...]:
        """The leases that are held, by name.

        Raises:
            OutdatedError: they are not known.
        """
        self._check()
        return self._contents.leases.all()

    def answer(self, query: Query) -> Answer:
        """What is asked for, as it is now.

        Raises:
            OutdatedError: it is not known.
        """
        self._check()
        revision = self._contents.revision
        if query.after is None:
            return Answer(revision, True, self._found(query))
        if revision < query.after:
            # The asker saw a later state, on another voter: nothing to tell yet.
            return Answer(revision, False, ())
        names = self._changes.since(query, query.after)
        if names is None:
            return Answer(revision, True, self._found(query))
        found = {name: self._entry(query.space, name) for name in sorted(names)}
        return Answer(
            revision,
            False,
            tuple(entry for entry in found.values() if entry is not None),
            tuple(name for name, entry in found.items() if entry is None),
        )

    def _check(self) -> None:
        if self._outdated:
            raise OutdatedError("this agent's code is older than what the voters agreed on")

    def _found(self, query: Query) -> tuple[Entry, ...]:
        if query.exact:
            entry = self._entry(query.space, query.name)
            return () if entry is None else (entry,)
        if query.space is Space.KEYS:
            return self._contents.entries.below(query.name)
        leases = self._contents.leases.all()
        return tuple(_lease_entry(held) for held in leases if query.covers(held.name))

    def _entry(self, space: Space, name: str) -> Entry | None:
        if space is Space.KEYS:
            return self._contents.entries.get(name)
        held = self._contents.leases.get(name)
        return None if held is None else _lease_entry(held)

    def _once(self, header: Header, asked: Operation) -> bytes:
        request = header.request
        if request is None:
            if isinstance(asked, Put | Delete | Acquire):
                return encode_result(Refused(Reason.NO_REQUEST_ID))
            return encode_result(self._carry_out(asked))
        before = self._contents.sessions.begin(request)
        if isinstance(before, Reason):
            return encode_result(Refused(before))
        if before is not None:
            return before
        result = encode_result(self._carry_out(asked))
        if isinstance(asked, Recover):
            # It ended this session with all the others.
            return result
        self._contents.sessions.end(request, result)
        return result

    def _carry_out(self, asked: Operation) -> Result:
        match asked:
            case Put():
                return self._put(asked)
            case Delete():
                return self._delete(asked)
            case Acquire():
                return self._acquire(asked)
            case Renew(epochs):
                leases = self._contents.leases
                return Renewed(tuple(epoch for epoch in epochs if not leases.renew(epoch)))
            case Expire(epoch, renewals):
                held = self._contents.leases.with_epoch(epoch)
                if held is None or held.renewals != renewals:
                    return Conflict(0)
                return self._end(held, released=False)
            case Release(epoch):
                held = self._contents.leases.with_epoch(epoch)
                return Conflict(0) if held is None else self._end(held, released=True)
            case OpenSession():
                return Opened(self._contents.sessions.open())
            case RaiseVersion(version):
                return self._raise_version(version)
            case Recover(jump):
                return self._recover(jump)

    def _put(self, put: Put) -> Result:
        entries = self._contents.entries
        current = entries.revision(put.key)
        if put.expected is not None and put.expected != current:
            return Conflict(current)
        refusal = entries.refusal(put.key, put.value)
        if refusal is not None:
            return Refused(refusal)
        revision = self._changed(Space.KEYS, put.key)
        entries.put(put.key, put.value, revision)
        return Done(revision)

    def _delete(self, delete: Delete) -> Result:
        entries = self._contents.entries
        current = entries.revision(delete.key)
        if delete.expected is not None and delete.expected != current:
            return Conflict(current)
        if current == 0:
            return Done(self._contents.revision)
        entries.remove(delete.key)
        return Done(self._changed(Space.KEYS, delete.key))

    def _acquire(self, acquire: Acquire) -> Result:
        leases = self._contents.leases
        held = leases.get(acquire.name)
        if held is not None and held.holder != acquire.holder:
            return HeldByOther(held.holder, held.epoch, held.revision)
        if not (key_fits(acquire.name) and key_fits(acquire.holder)):
            return Refused(Reason.KEY_SIZE)
        if not MIN_TTL <= acquire.ttl <= MAX_TTL:
            return Refused(Reason.TTL)
        if held is None and len(leases) >= MAX_LEASES:
            return Refused(Reason.LEASES)
        revision = self._changed(Space.LEASES, acquire.name)
        granted, clean = leases.grant(acquire.name, acquire.holder, acquire.ttl, revision)
        return Granted(granted.epoch, clean, revision)

    def _end(self, held: Held, *, released: bool) -> Result:
        self._contents.leases.end(held.name, released=released)
        return Done(self._changed(Space.LEASES, held.name))

    def _raise_version(self, version: int) -> Result:
        if version > self._supported:
            # Others know what follows; here nothing is certain any more.
            self._outdated = True
            return Refused(Reason.OUTDATED)
        self._contents.version = max(self._contents.version, version)
        return Done(self._contents.revision)

    def _recover(self, jump: int) -> Result:
        if not 0 < jump <= MAX_JUMP:
            return Refused(Reason.MALFORMED)
        contents = self._contents
        for held in contents.leases.all():
            contents.leases.end(held.name)
        contents.leases = type(contents.leases)(contents.leases.epoch + jump)
        contents.sessions = type(contents.sessions)(contents.sessions.last + jump)
        contents.revision += jump
        self._changes = ChangeLog(contents.revision)
        return Done(contents.revision)

    def _changed(self, space: Space, name: str) -> int:
        self._contents.revision += 1
        self._changes.add(self._contents.revision, space, name)
        return self._contents.revision


def _lease_entry(held: Held) -> Entry:
    return Entry(held.name, held.value(), held.revision)
