"""What the state takes at most. An operation beyond is refused, and changes nothing.

The voters have to refuse alike, so a change of one of these is a new version of the operations.
"""

from __future__ import annotations

MAX_KEY = 256
"""Bytes of a key, of a lease's name and of a holder, in UTF-8."""

MAX_VALUE = 64 * 1024
"""Bytes of a value."""

MAX_TOTAL = 16 * 1024 * 1024
"""Bytes of all keys and values, with :data:`ENTRY_COST` for each."""

ENTRY_COST = 64
"""Bytes that an entry counts besides its key and value: empty ones take memory too."""

MAX_LEASES = 4096
"""Leases that are held at the same time."""

MIN_TTL = 1_000
MAX_TTL = 3_600_000
"""Milliseconds that a lease is held without a renewal."""

MAX_SESSIONS = 1024
"""Clients whose requests are remembered; the one that was silent longest is forgotten."""

SESSION_WINDOW = 128
"""Requests of one client that may be unfinished, from the oldest to the newest."""

MAX_RESULTS = 4 * 1024 * 1024
"""Bytes of remembered results."""

MAX_RELEASED = 1024
"""Names of which it is remembered that their last holder released them."""

MAX_JUMP = 1 << 52
"""How far :class:`~.operations.Recover` may move the counters at once."""
