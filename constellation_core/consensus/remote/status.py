"""How a voter sees the group, as it travels: a map, so that versions may add to it."""

from __future__ import annotations

from constellation_core.consensus.interface import EngineStatus, Role, Voter
from constellation_core.consensus.remote.values import (
    MalformedError,
    count,
    flag,
    items,
    text,
    voter,
)

_REASON = 1024
_COUNTS = (
    "term",
    "commit_index",
    "applied_index",
    "last_index",
    "log_entries",
    "log_bytes",
    "snapshot_index",
    "refused",
)


def encode_status(status: EngineStatus) -> dict[str, object]:
    """Ready for MessagePack."""
    return {
        "role": status.role.value,
        "me": status.me,
        "leader": None if status.leader is None else _pair(status.leader),
        "voters": [_pair(each) for each in status.voters],
        "change_pending": status.change_pending,
        "match": [list(each) for each in status.match],
        # Milliseconds.
        "heard": [[voter_id, round(1000 * ago)] for voter_id, ago in status.heard],
        "failure": None if status.failure is None else status.failure[: _REASON // 4],
        **{name: getattr(status, name) for name in _COUNTS},
    }


def decode_status(given: object) -> EngineStatus:
    """The inverse of :func:`encode_status`; what it does not know is passed over.

    Raises:
        MalformedError: when it is none.
    """
    if not isinstance(given, dict):
        raise MalformedError("not a status")
    leader, failure = given.get("leader"), given.get("failure")
    return EngineStatus(
        _role(given.get("role")),
        text(given.get("me"), most=64),
        leader=None if leader is None else voter(leader),
        voters=items(given.get("voters"), voter),
        change_pending=flag(given.get("change_pending")),
        match=items(given.get("match"), _match),
        heard=tuple((each, ago / 1000) for each, ago in items(given.get("heard", []), _match)),
        failure=None if failure is None else text(failure, most=_REASON),
        **{name: count(given.get(name)) for name in _COUNTS},
    )


def _pair(each: Voter) -> list[str]:
    return [each.id, each.address]


def _match(item: object) -> tuple[str, int]:
    match item:
        case [voter_id, index]:
            return text(voter_id, most=64), count(index)
    raise MalformedError("not a voter and a count")


def _role(item: object) -> Role:
    try:
        return Role(text(item, most=64))
    except ValueError as error:
        raise MalformedError("no such role") from error
