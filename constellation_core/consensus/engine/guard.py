"""Which changes of the voters a leader accepts: one at a time.

Two majorities have a voter in common only if the configurations differ by one voter, and if
the one before is committed (Ongaro's dissertation, section 4.1); before its first change a
leader must have committed an entry of its own term (Ongaro, "bug in single-server membership
changes", raft-dev, 2015). PySyncObj means to check the former, but never sets the index that it
compares with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from constellation_core.consensus.engine.commands import Change
from constellation_core.consensus.interface import MembershipRefused, Voter

MAX_VOTERS = 7


def voters_after(base: Iterable[Voter], changes: Iterable[Change]) -> tuple[Voter, ...]:
    """The configuration that results from changes, in the order of ids."""
    voters: dict[str, Voter] = {voter.id: voter for voter in base}
    for change in changes:
        if change.kind == "add":
            voters[change.voter.id] = change.voter
        else:
            voters.pop(change.voter.id, None)
    return tuple(voters[each] for each in sorted(voters))


def check_change(
    change: Change,
    voters: Iterable[Voter],
    *,
    me: str,
    pending: bool,
    own_term_applied: bool,
) -> None:
    """Refuse a change that must not be put into the log now.

    Args:
        change: what is asked.
        voters: the configuration now.
        me: the leader.
        pending: an earlier change is not committed yet.
        own_term_applied: an entry of the leader's term is committed and applied.

    Raises:
        MembershipRefused: with the reason.
    """
    if pending:
        raise MembershipRefused("another change of the voters is not committed yet")
    if not own_term_applied:
        raise MembershipRefused("the leader has not committed anything in its term yet")
    by_id: Mapping[str, Voter] = {voter.id: voter for voter in voters}
    voter = change.voter
    if change.kind == "remove":
        if voter.id not in by_id:
            raise MembershipRefused(f"{voter.id} is not a voter")
        if voter.id == me:
            raise MembershipRefused("a leader does not remove itself; transfer the leadership")
        return
    if voter.id in by_id:
        raise MembershipRefused(f"{voter.id} is a voter already")
    if any(voter.address == each.address for each in by_id.values()):
        raise MembershipRefused(f"another voter has the address {voter.address}")
    if len(by_id) >= MAX_VOTERS:
        raise MembershipRefused(f"there are {len(by_id)} voters; more would only be slower")
