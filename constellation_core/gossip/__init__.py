"""Membership by gossip: the SWIM protocol with Lifeguard, in HashiCorp memberlist's wire format.

Usable without an agent::

    from constellation_core.gossip import Gossip, GossipConfig, Keyring

    gossip = Gossip(GossipConfig("node-a"), bind=("127.0.0.1", 7946), keyring=Keyring([key]))
    await gossip.start()
    print(await gossip.join(["127.0.0.1:7947"]))
    print(gossip.members())

Nodes serve each other requests and streams of messages, see :attr:`Gossip.streams`.

The protocol itself (``protocol.py``) is a state machine without sockets or clocks; ``driver.py``
runs it on asyncio.
"""

from constellation_core.gossip.actions import Delegate, ExchangeFailed, NoDelegate
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.driver import Gossip, JoinResult
from constellation_core.gossip.keyring import Keyring, KeyringError
from constellation_core.gossip.member import (
    Address,
    EventKind,
    Member,
    MemberEvent,
    decode_tags,
    encode_tags,
)
from constellation_core.gossip.paths import Path
from constellation_core.gossip.protocol import Protocol
from constellation_core.gossip.rpc.endpoint import StreamEndpoint
from constellation_core.gossip.rpc.failures import (
    PeerGoneError,
    PeerUnreachableError,
    RejectionError,
    RemoteFailureError,
    RemoteRejectionError,
    StreamClosedError,
    StreamDamagedError,
    StreamError,
    StreamLimitError,
    StreamRefusedError,
    StreamTimeoutError,
)
from constellation_core.gossip.rpc.settings import (
    Peer,
    ServiceLimits,
    StreamInfo,
    StreamSettings,
    StreamStats,
)
from constellation_core.gossip.rpc.stream import Stream
from constellation_core.gossip.sockets import GossipBindError
from constellation_core.gossip.stats import Stats, Tally

__all__ = [
    "Address",
    "Delegate",
    "EventKind",
    "ExchangeFailed",
    "Gossip",
    "GossipBindError",
    "GossipConfig",
    "JoinResult",
    "Keyring",
    "KeyringError",
    "Member",
    "MemberEvent",
    "NoDelegate",
    "Path",
    "Peer",
    "PeerGoneError",
    "PeerUnreachableError",
    "Protocol",
    "RejectionError",
    "RemoteFailureError",
    "RemoteRejectionError",
    "ServiceLimits",
    "Stats",
    "Stream",
    "StreamClosedError",
    "StreamDamagedError",
    "StreamEndpoint",
    "StreamError",
    "StreamInfo",
    "StreamLimitError",
    "StreamRefusedError",
    "StreamSettings",
    "StreamStats",
    "StreamTimeoutError",
    "Tally",
    "decode_tags",
    "encode_tags",
]
