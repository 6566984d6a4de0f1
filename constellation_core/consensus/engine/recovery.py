"""A new group from what one voter of a lost group kept.

When most voters are gone for good, nobody can tell any more what they had acknowledged. The way
on is a decision of a person: the log of one survivor is taken for the truth, all of it, committed
or not, for what was acknowledged may be in there without a sign of it. It becomes the first
snapshot of a *new* group with one voter. The new group has a UUID of its own, from which its
keys are derived, so no voter of the old one can speak with it, should one return; and the
survivor votes in it as a voter of its own, under a new id.

The new files stand beside the old ones. They count from the moment at which the identity, written
last and in one step, says so: a crash leaves the old voter or the new one. The old files are kept
until the next recovery; ``identity.old`` in the place of ``identity`` would bring them back.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from uuid import UUID

from constellation_core.consensus.engine.commands import (
    APPLY,
    NO_OP_COMMAND,
    apply_command,
    split_address,
)
from constellation_core.consensus.engine.identity import Identity, write_identity
from constellation_core.consensus.engine.inspection import Inspection
from constellation_core.consensus.engine.journal import write_journal
from constellation_core.consensus.engine.snapshots import (
    Snapshot,
    encode_snapshot,
    write_snapshot,
)
from constellation_core.consensus.engine.storage import Paths
from constellation_core.consensus.files import FaultPoint, no_faults, replace_file
from constellation_core.consensus.interface import Corrupt, StateMachine, Voter

_log = logging.getLogger(__name__)


def carry_out(found: Inspection, machine: StateMachine) -> None:
    """Bring ``machine`` to the state after the last entry that was found.

    Raises:
        Corrupt: there is no snapshot to begin with, or the machine cannot read it.
    """
    if found.snapshot is None:
        raise Corrupt(f"{found.paths.directory} holds no state that can be trusted")
    try:
        machine.restore(found.snapshot.state)
    except ValueError as error:
        raise Corrupt(f"the snapshot's state cannot be read: {error}") from error
    for command, index, _ in found.entries:
        if command[0] == APPLY:
            try:
                machine.apply(index, command[1:])
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001 - it failed alike on every voter
                _log.exception("the state machine failed at entry %d", index)


def begin_anew(
    found: Inspection,
    *,
    cluster: UUID,
    voter: Voter,
    operation: bytes,
    machine: StateMachine,
    faults: FaultPoint = no_faults,
) -> None:
    """Make the directory that of a new group's only voter. Nobody else may use it meanwhile.

    Args:
        found: the directory.
        cluster: the new group's UUID.
        voter: its voter: a new UUID, and the address of this machine's engine.
        operation: the log's new last entry. It is in the state already.
        machine: has the state.
        faults: fault points, for tests.

    Raises:
        ValueError: the voter's address is none, or the directory is no voter's.
        OSError: a file could not be written; the directory is as it was.
    """
    if found.identity is None:
        raise ValueError(f"{found.paths.directory} is not a voter's")
    split_address(voter.address)
    before = found.identity
    identity = Identity(cluster, UUID(voter.id), before.generation + 1)
    paths = Paths(found.paths.directory, identity.generation)
    # A term that nobody has voted in, and two entries, which are the fewest that a log has.
    term, index = found.term + 1, found.last[1] + 1
    snapshot = Snapshot(
        cluster,
        (NO_OP_COMMAND, index, term),
        (apply_command(operation), index + 1, term),
        (voter,),
        machine.snapshot(),
    )
    write_snapshot(paths.snapshot, encode_snapshot(snapshot), faults)
    write_journal(paths.journal, identity, (snapshot.previous, snapshot.last), faults)
    kept = paths.identity.with_name("identity.old")
    replace_file(kept, paths.identity.read_bytes(), faults, "identity.old")
    write_identity(paths.identity, identity, faults)
    _drop_older(replace(paths, generation=before.generation))


def _drop_older(kept: Paths) -> None:
    """Remove the files of the generation before the one that is kept."""
    if kept.generation > 0:
        older = replace(kept, generation=kept.generation - 1)
        older.journal.unlink(missing_ok=True)
        older.snapshot.unlink(missing_ok=True)
