"""What etcd answers when it does not do what it was asked for.

The codes are gRPC's; the gateway puts them into the answer's body. The texts are etcd's
(``api/v3rpc/rpctypes/error.go``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from constellation_core.consensus import ConsensusError, Unavailable, Unknown

INVALID_ARGUMENT = 3
NOT_FOUND = 5
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
OUT_OF_RANGE = 11
UNIMPLEMENTED = 12
UNAVAILABLE = 14
UNAUTHENTICATED = 16

NO_LEADER = "etcdserver: no leader"

# Of UNAVAILABLE itself, most texts say that the time is over: it may be done all the same.
_NOT_DONE = frozenset(
    {
        INVALID_ARGUMENT,
        NOT_FOUND,
        PERMISSION_DENIED,
        RESOURCE_EXHAUSTED,
        FAILED_PRECONDITION,
        OUT_OF_RANGE,
        UNIMPLEMENTED,
        UNAUTHENTICATED,
    }
)

_FINAL = _NOT_DONE - {RESOURCE_EXHAUSTED, OUT_OF_RANGE}

_LOGIN_IS_OLD = ("user name is empty", "revision of auth store is old")


class Refusal(Unavailable):
    """A member answered that it does not do it; nothing was done.

    Attributes:
        code: gRPC's.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def no_leader(self) -> bool:
        """The member knows no leader; another one may."""
        return self.code == UNAVAILABLE

    @property
    def final(self) -> bool:
        """Nobody will do it, however often it is asked."""
        return self.code in _FINAL

    @property
    def login_needed(self) -> bool:
        """It would be done for somebody who has just logged in."""
        return self.code == UNAUTHENTICATED or any(text in str(self) for text in _LOGIN_IS_OLD)


class Unreachable(Unavailable):
    """Not a byte of the request left this machine."""


def failure(answer: Mapping[str, Any]) -> ConsensusError:
    """The error that an answer (or an element of a stream) tells of.

    Returns:
        :class:`Refusal` when nothing was done, ``Unknown`` when that is not certain.
    """
    error = answer.get("error")
    details: Mapping[str, Any] = error if isinstance(error, Mapping) else answer
    code = details.get("grpc_code", details.get("code"))
    message = details.get("message")
    text = message if isinstance(message, str) else "an error without a text"
    if isinstance(code, int) and (code in _NOT_DONE or text == NO_LEADER):
        return Refusal(code, text)
    return Unknown(text)
