"""The ways back that a person has to choose, while the agent does not run.

*Recover*: most voters are gone for good; one of the others becomes the only voter of a new
cluster. *Restore*: a new cluster begins from a backup. Either way some of what was acknowledged
may be forgotten, and with it leases that were granted and the epochs they were granted with. So
all leases are free afterwards, and all counters (epochs, sessions, revisions) move on by
:class:`~.state.operations.Recover`: beyond what the lost entries may have handed out, and beyond
what a cluster may have handed out that was recovered or restored earlier from another copy of
the same state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

from constellation_core.consensus.backups import Backup
from constellation_core.consensus.engine.commands import split_address
from constellation_core.consensus.engine.identity import DirectoryLock, Identity
from constellation_core.consensus.engine.inspection import Inspection, inspect
from constellation_core.consensus.engine.recovery import begin_anew, carry_out
from constellation_core.consensus.engine.storage import Paths, create
from constellation_core.consensus.files import FaultPoint, no_faults
from constellation_core.consensus.interface import ConsensusError, Corrupt, Voter
from constellation_core.consensus.state import OutdatedError, ReplicatedState
from constellation_core.consensus.state.limits import MAX_JUMP
from constellation_core.consensus.state.operations import Recover, encode
from constellation_core.consensus.state.results import Done, decode_result
from constellation_core.consensus.voters.record import Places, remember, set_aside

_STEP = 1 << 20
"""More than is ever handed out in a second, or while entries are on their way to a majority."""


class RecoveryRefused(ConsensusError):  # noqa: N818 - an outcome, as those of the interface
    """It is not done, and nothing was changed; the text says why."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far another survivor's log goes: see :attr:`~.engine.inspection.Inspection.last`.

    Attributes:
        where: for people.
        cluster: its cluster's UUID.
        last: term and index of its last entry.
    """

    where: str
    cluster: str
    last: tuple[int, int]


@dataclass(frozen=True, slots=True)
class NewCluster:
    """What a recovery or a restoration made.

    Attributes:
        former: the UUID of the cluster before.
        cluster: the new one's.
        voter: its only voter.
    """

    former: str
    cluster: str
    voter: Voter


def check_recoverable(
    found: Inspection,
    *,
    others: Iterable[Position] = (),
    despite_damage: bool = False,
    address: str | None = None,
) -> str:
    """Whether a directory can be recovered; gives the address of its voter.

    Args:
        found: the directory.
        others: what else survived.
        despite_damage: go on with what can be read of a damaged journal.
        address: instead of the one in the log.

    Raises:
        RecoveryRefused: with the reason.
    """
    if found.identity is None:
        raise RecoveryRefused(
            found.problems[0] if found.problems else f"{found.paths.directory} is not a voter's"
        )
    if found.in_use:
        raise RecoveryRefused(f"another process uses {found.paths.directory}")
    if found.snapshot is None:
        raise RecoveryRefused(
            found.problems[0] if found.problems else "this voter was never sent any data"
        )
    if found.problems and not despite_damage:
        raise RecoveryRefused(found.problems[0])
    for other in others:
        if other.cluster != str(found.identity.cluster):
            done = "; was this voter recovered already?" if found.identity.generation else ""
            raise RecoveryRefused(
                f"{other.where} tells of another cluster, {other.cluster}, and this voter is of"
                f" {found.identity.cluster}{done}"
            )
        if other.last > found.last:
            raise RecoveryRefused(
                f"{other.where} goes further: to index {other.last[1]} in term {other.last[0]},"
                f" and this one to {found.last[1]} in term {found.last[0]}"
            )
    addresses = {each.id: each.address for each in found.voters}
    chosen = address or addresses.get(found.identity.id)
    if chosen is None:
        raise RecoveryRefused("the voters that it knows of do not include itself")
    return chosen


def recover(
    directory: Path,
    *,
    now: float,
    others: Iterable[Position] = (),
    despite_damage: bool = False,
    address: str | None = None,
    faults: FaultPoint = no_faults,
) -> NewCluster:
    """Make the voter of this machine the only one of a new cluster.

    A crash leaves the old voter or the new one.

    Args:
        directory: the agent's for consensus.
        now: seconds since 1970, by the wall clock.
        others, despite_damage, address: as in :func:`check_recoverable`.
        faults: fault points, for tests.

    Raises:
        RecoveryRefused: as :func:`check_recoverable`, or the state cannot be read.
        Unavailable: another process uses the directory.
        OSError: a file could not be read or written.
    """
    paths = Paths(Places(directory).voter)
    if not paths.identity.exists():
        raise RecoveryRefused(f"{paths.directory} is not a voter's")
    lock = DirectoryLock(paths.lock)
    try:
        # The process that uses it is this one.
        found = replace(inspect(paths.directory), in_use=False)
        chosen = check_recoverable(
            found, others=others, despite_damage=despite_damage, address=address
        )
        state = ReplicatedState()
        try:
            carry_out(found, state)
            operation = _go_on(state, now)
        except (Corrupt, OutdatedError) as error:
            raise RecoveryRefused(str(error)) from error
        former = found.identity.cluster if found.identity else None
        made = NewCluster(str(former), str(uuid4()), Voter(str(uuid4()), chosen))
        begin_anew(
            found,
            cluster=UUID(made.cluster),
            voter=made.voter,
            operation=operation,
            machine=state,
            faults=faults,
        )
        return made
    finally:
        lock.release()


def restore(
    directory: Path,
    backup: Backup,
    *,
    now: float,
    address: str,
    faults: FaultPoint = no_faults,
) -> NewCluster:
    """Begin a new cluster from a backup, with this machine's voter as the only one.

    A voter's files that are there already are set aside. After a crash there is no voter here,
    or the new one; restore again.

    Args:
        directory: the agent's for consensus; made if it is missing.
        backup: what to begin with.
        now: seconds since 1970, by the wall clock.
        address: ``IP:port`` at which other voters will reach this machine's engine.
        faults: fault points, for tests.

    Raises:
        RecoveryRefused: the backup's state cannot be read, or the address is none.
        Corrupt: what the agent remembers of its cluster cannot be read.
        Unavailable: another process uses the directory.
        OSError: a file could not be read or written.
    """
    places = Places(directory)
    state = ReplicatedState()
    try:
        state.restore(backup.state)
        _go_on(state, now)
        content = state.snapshot()
        # What somebody made may be readable, and not be any more with the counters moved on.
        ReplicatedState().restore(content)
        split_address(address)
    except (ValueError, OutdatedError) as error:
        raise RecoveryRefused(str(error)) from error
    places.make()
    made = NewCluster(backup.cluster, str(uuid4()), Voter(str(uuid4()), address))
    DirectoryLock(Paths(places.voter).lock).release()
    if occupied(directory):
        set_aside(places)
    # Before there is a voter: who knows a cluster founds none.
    remember(directory, made.cluster, (backup.cluster,))
    identity = Identity(UUID(made.cluster), UUID(made.voter.id))
    create(places.voter, identity, [made.voter], content, faults)
    return made


def back_up(directory: Path, *, now: float) -> Backup:
    """A backup from a voter that does not run, of all that is in its log, committed or not.

    Args:
        directory: the agent's for consensus.
        now: seconds since 1970, by the wall clock.

    Raises:
        RecoveryRefused: there is nothing, or it cannot be trusted.
        OSError: a file could not be read.
    """
    found = inspect(Places(directory).voter)
    if found.identity is None or found.problems:
        raise RecoveryRefused(
            found.problems[0] if found.problems else f"{found.paths.directory} is not a voter's"
        )
    state = ReplicatedState()
    try:
        carry_out(found, state)
        content = state.snapshot()
    except (Corrupt, OutdatedError) as error:
        raise RecoveryRefused(str(error)) from error
    return Backup(str(found.identity.cluster), found.last[1], now, content)


def occupied(directory: Path) -> bool:
    """Whether there are a voter's files, which :func:`restore` would set aside."""
    return Paths(Places(directory).voter).identity.exists()


def _go_on(state: ReplicatedState, now: float) -> bytes:
    """Free all leases of ``state`` and move its counters on; the operation that did so.

    Raises:
        OutdatedError: this code is too old for the state.
    """
    # A step for each second since 1970: who recovers or restores later, from whatever copy,
    # begins above all that was handed out until then. Should the wall clock be wrong, at least
    # this copy's own past is exceeded.
    jump = max(_STEP, int(now) * _STEP - state.counted)
    operation = encode(Recover(min(jump, MAX_JUMP)))
    if not isinstance(decode_result(state.apply(0, operation)), Done):
        raise OutdatedError("this version of the program is older than what the voters agreed on")
    return operation
