"""Our side of the conformance tests: a node in the test's process, or in one of its own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from constellation_core.gossip import Gossip, GossipConfig, Keyring, MemberEvent, NoDelegate
from constellation_core.gossip.keyring import DecryptError
from constellation_core.gossip.member import Address, Member
from constellation_core.gossip.messages import MessageType
from constellation_core.gossip.serf import SerfDelegate, UserEvent
from constellation_core.model.node import NodeState
from tests.conformance.peers import seed
from tests.conformance.programs import so


class Notes(NoDelegate):
    """Keeps all that a delegate is told, and offers a state for push/pulls."""

    def __init__(self, state: bytes = b"") -> None:
        self.state = state
        self.events: list[MemberEvent] = []
        self.messages: list[bytes] = []
        self.requests: list[bytes] = []
        self.states: list[bytes] = []

    def on_event(self, event: MemberEvent) -> None:
        self.events.append(event)

    def on_message(self, payload: bytes) -> None:
        self.messages.append(payload)

    def on_request(self, payload: bytes) -> bytes | None:
        self.requests.append(payload)
        return None

    def local_state(self, *, join: bool) -> bytes:
        return self.state

    def merge_state(self, state: bytes, *, join: bool) -> None:
        self.states.append(state)


class Ours:
    """A node of ours in this process.

    Attributes:
        notes: what happened, for memberlist; for Serf only the events of the membership.
        serf: the delegate for Serf, in whose clusters nothing else rides.
        user_events: the user events of Serf that came.
        outermost: how many datagrams had this type outermost inside the encryption, or next to
            a checksum.
    """

    def __init__(
        self, config: GossipConfig, bind: Address, key: bytes | None, meta: bytes, *, serf: bool
    ) -> None:
        self.notes = Notes()
        self.keyring = Keyring([key]) if key is not None else None
        self.user_events: list[UserEvent] = []
        self.serf = SerfDelegate(
            config.name,
            keyring=self.keyring,
            on_user_event=self.user_events.append,
            on_member_event=self.notes.on_event,
        )
        self.outermost: Counter[int] = Counter()
        self.gossip = Gossip(
            config,
            bind=bind,
            keyring=self.keyring,
            delegate=self.serf if serf else self.notes,
            meta=meta,
        )

    async def start(self) -> None:
        """Start the node, and listen in on its datagrams."""
        await self.gossip.start()
        protocol = self.gossip.protocol
        receive = protocol.on_datagram

        def listen_in(data: bytes, source: Address, now: float) -> None:
            self._note_layers(data)
            receive(data, source, now)

        protocol.on_datagram = listen_in  # type: ignore[method-assign]

    def _note_layers(self, data: bytes) -> None:
        try:
            inside = self.keyring.decrypt(data) if self.keyring is not None else data
        except DecryptError:
            return
        self.outermost[inside[0]] += 1
        if inside[0] == MessageType.HAS_CRC:
            self.outermost[inside[5]] += 1

    @property
    def name(self) -> str:
        return self.gossip.local.name

    @property
    def seed(self) -> str:
        return seed(*self.gossip.local.address)

    def member(self, name: str) -> Member | None:
        return self.gossip.protocol.table.get(name)

    def known(self, name: str) -> Member:
        member = self.member(name)
        assert member is not None, name
        return member

    def alive(self) -> set[str]:
        return {m.name for m in self.gossip.members() if m.state is NodeState.ALIVE}

    async def join(self, seed: str) -> None:
        (result,) = await self.gossip.join([seed])
        assert result.joined, result.reason

    async def wait_for(self, name: str, state: NodeState, timeout: float = 20.0) -> Member:
        """Wait until a member is in this state."""

        def reached() -> bool:
            member = self.member(name)
            return member is not None and member.state is state

        await so(reached, f"{name} to be {state} at {self.name}", timeout)
        return self.known(name)

    def nothing_was_unreadable(self) -> None:
        """Fails the test when something came that this node could not read."""
        stats = self.gossip.protocol.stats
        assert (stats.malformed, stats.incompatible) == (0, 0), stats
        assert not stats.undecryptable, stats


NODE_PROGRAM = Path(__file__).parent / "node.py"
