"""Settings of the gossip protocol. Times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass

PROTOCOL_VERSIONS = (1, 5, 2)
"""Lowest and highest memberlist protocol that we understand, and the one that we speak."""

OUR_DELEGATE_VERSIONS = (20, 20, 20)
"""Keeps Constellation's clusters and foreign ones (Serf has 2 to 5) apart on shared networks."""


@dataclass(frozen=True, slots=True)
class GossipConfig:
    """How fast and how generously to gossip.

    With the defaults all of 30 nodes notice a dead one within 4 seconds, at roughly twice the
    traffic of memberlist's LAN profile, which :meth:`lan` gives.

    Attributes:
        name: this node's name, unique in the cluster.
        probe_interval: one member is probed every so often.
        probe_timeout: wait for a direct answer, before others are asked to try.
        indirect_checks: how many others are asked.
        suspicion_multiplier: scales the time that a suspect has to answer; what it has above 2,
            rounded up, is how many others must confirm the suspicion.
        suspicion_most_multiplier: how much longer that time is without confirmations.
        gossip_interval: messages are sent on every so often ...
        gossip_nodes: ... to so many members.
        retransmit_multiplier: scales how often each message is sent.
        push_pull_interval: whole views are exchanged every so often, up to 32 members; the
            interval grows with the logarithm of the members beyond.
        gossip_to_dead: how long dead members are still told, so that they can object.
        forget_dead: how long dead members stay listed and are tried again.
        forget_left: how long members that left stay listed.
        reclaim_dead: how long a member must be dead before its name may come from elsewhere. 0 is
            at once; memberlist takes 0 for never.
        name_retry: a node that gave its name up to an elder one tries again after so long.
        most_members: how many members are kept, online or not; further names are refused.
        rejoin_interval: a dead or remembered member is tried every so often.
        exchange_timeout: limit for one exchange over TCP.
        datagram_size: largest datagram that is sent.
        protocol_versions: see :data:`PROTOCOL_VERSIONS`.
        delegate_versions: see :data:`OUR_DELEGATE_VERSIONS`; ``(0, 0, 0)`` for a plain
            memberlist.
        stall: when a timer is so late, this process was not running: it doubts itself, and
            gives everybody under suspicion the lost time.
        label: names the cluster in clear, before everything that is sent; who has one takes only
            what has the same. memberlist knows labels since 0.3.
        compress: compress what gets smaller by it. Ours is readable for all without.
        compress_views: whole views of up to so many bytes are compressed in any case, which makes
            them three times smaller; larger ones would hold up everything else meanwhile.
        checksums: add a CRC to datagrams, for networks that damage packets and no encryption.
    """

    name: str
    probe_interval: float = 0.5
    probe_timeout: float = 0.25
    indirect_checks: int = 3
    suspicion_multiplier: float = 2.5
    suspicion_most_multiplier: int = 6
    gossip_interval: float = 0.2
    gossip_nodes: int = 3
    retransmit_multiplier: int = 4
    push_pull_interval: float = 30.0
    gossip_to_dead: float = 30.0
    forget_dead: float = 86_400.0
    forget_left: float = 3_600.0
    reclaim_dead: float = 0.0
    name_retry: float = 60.0
    most_members: int = 10_000
    rejoin_interval: float = 10.0
    exchange_timeout: float = 10.0
    datagram_size: int = 1400
    protocol_versions: tuple[int, int, int] = PROTOCOL_VERSIONS
    delegate_versions: tuple[int, int, int] = OUR_DELEGATE_VERSIONS
    stall: float = 0.5
    label: str = ""
    compress: bool = False
    compress_views: int = 16_384
    checksums: bool = False

    @classmethod
    def lan(cls, name: str) -> GossipConfig:
        """memberlist's defaults for a local network."""
        return cls(name, probe_interval=1.0, probe_timeout=0.5, suspicion_multiplier=4)

    @property
    def versions(self) -> bytes:
        """The six version bytes that stand in our messages."""
        return bytes((*self.protocol_versions, *self.delegate_versions))
