"""The keys of the voters' connections, derived from the cluster key.

HKDF-SHA256 (RFC 5869) with the group's UUID as salt: the key of one group opens nothing of
another, nor gossip. During a rotation the new and the previous cluster key are both accepted.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_INFO = b"constellation/raft/v1"
KEY_ID = 8


@dataclass(frozen=True, slots=True)
class GroupKey:
    """A key that two voters share before they connect, and a name that tells nothing of it."""

    secret: bytes = field(repr=False)
    id: bytes

    def tag(self, *parts: bytes) -> bytes:
        """HMAC-SHA256 over the parts, which have fixed lengths."""
        return hmac.digest(self.secret, b"".join(parts), hashlib.sha256)


def derive(secret: bytes, salt: bytes, info: bytes, length: int = 32) -> bytes:
    """HKDF-SHA256."""
    return HKDF(SHA256(), length, salt, info).derive(secret)


def group_keys(cluster_keys: Sequence[bytes], cluster: UUID) -> tuple[GroupKey, ...]:
    """The group's keys, the current one first.

    Args:
        cluster_keys: the current cluster key of 32 bytes, then those still accepted.
        cluster: the group's UUID.

    Raises:
        ValueError: there is none, or one has another length.
    """
    if not cluster_keys or any(len(key) != 32 for key in cluster_keys):
        raise ValueError("a cluster key has 32 bytes, and there must be one")
    return tuple(
        GroupKey(
            derive(key, cluster.bytes, _INFO), derive(key, cluster.bytes, _INFO + b"/id", KEY_ID)
        )
        for key in cluster_keys
    )
