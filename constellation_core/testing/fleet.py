"""A simulated fleet: a network of nodes that each have a catalog and some services.

What must always be so can be asked of it: who was declared dead, whether an owner's state that a
node knew was ever replaced by an older one, and how many bytes of broadcasts each node sent::

    fleet = SimulatedFleet(seed=1, size=30, services=10)
    fleet.network.conditions.loss = 0.2
    fleet.run_for(60)
    assert not fleet.declared_dead and not fleet.went_back
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from constellation_core.catalog import Catalog, CatalogConfig, with_epoch
from constellation_core.catalog.messages import Decoder
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.keyring import Keyring
from constellation_core.gossip.member import EventKind, MemberEvent, encode_tags
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.testing.network import EPOCH_2023, SimulatedNetwork
from constellation_core.testing.simulated_node import SimulatedNode

_SECOND = 1.0


@dataclass(frozen=True, slots=True)
class DeclaredDead:
    """One node's verdict on another."""

    at: float
    by: str
    node: str


@dataclass(slots=True)
class BroadcastBytes:
    """What one node's catalog put into datagrams: its messages, each with what frames it.

    Attributes:
        total: bytes since the start.
        last_at: virtual time of the last of them.
    """

    total: int = 0
    last_at: float = 0.0
    by_second: dict[int, int] = field(default_factory=dict)

    def worst(self, seconds: int) -> int:
        """The most bytes within any so many whole seconds that follow each other."""
        starts = self.by_second
        return max(
            (sum(self.by_second.get(at + n, 0) for n in range(seconds)) for at in starts),
            default=0,
        )


class FleetCatalog(Catalog):
    """A catalog whose broadcasts are counted."""

    def __init__(
        self,
        node: str,
        epoch: int,
        rng: Random,
        config: CatalogConfig | None,
        *,
        on_event: Callable[[MemberEvent], None],
        on_epoch: Callable[[int], None],
        decoder: Decoder,
        now: Callable[[], float],
    ) -> None:
        super().__init__(
            node, epoch, rng, config, on_event=on_event, on_epoch=on_epoch, decoder=decoder
        )
        self.sent = BroadcastBytes()
        self._clock = now

    def broadcasts(self, room: int, overhead: int, copies: int) -> Sequence[bytes]:
        """As the catalog's, counted."""
        payloads = super().broadcasts(room, overhead, copies)
        if payloads:
            size = copies * sum(len(payload) + overhead for payload in payloads)
            second = int(self._clock())
            self.sent.total += size
            self.sent.last_at = self._clock()
            self.sent.by_second[second] = self.sent.by_second.get(second, 0) + size
        return payloads


class SimulatedFleet:
    """Nodes called ``node-0``, ``node-1`` ..., each with a catalog.

    Args:
        seed: of all chance.
        size: how many nodes start.
        services: how many instances each of them publishes; node n's are called ``s0.node-n`` ...
        acquainted: the nodes know each other and each other's services from the beginning, as
            after a long calm. Otherwise all join the first one at once.
        config: makes the gossip's settings from a node's name.
        catalog: settings of the catalogs.
        keyring: encrypts everything, if given.
        traced: see :class:`SimulatedNetwork`.

    Attributes:
        network: the network.
        catalogs: the catalog of each node, by its name; of its last life.
        declared_dead: every verdict so far that a node is dead.
        went_back: descriptions of every time that a node's knowledge of an owner became older;
            looked for once in a second.
    """

    def __init__(
        self,
        seed: int,
        size: int,
        *,
        services: int = 0,
        acquainted: bool = True,
        config: Callable[[str], GossipConfig] = GossipConfig,
        catalog: CatalogConfig | None = None,
        keyring: Keyring | None = None,
        traced: bool = False,
    ) -> None:
        self.network = SimulatedNetwork(seed, config=config, keyring=keyring, traced=traced)
        self.catalogs: dict[str, FleetCatalog] = {}
        self.declared_dead: list[DeclaredDead] = []
        self.went_back: list[str] = []
        self._catalog_config = catalog
        # Simulated nodes share what they decode: it is immutable, and 1000 copies of it are many.
        self._decoder = Decoder(updates=2 * size + 1024, rows=2 * size * services + 1024)
        self._seen: dict[str, tuple[FleetCatalog, Mapping[str, tuple[int, int]]]] = {}
        for number in range(size):
            self.start(f"node-{number}")
        for name in self.names:
            for number in range(services):
                self.put(name, f"s{number}")
        if acquainted:
            self._acquaint()
        else:
            for name in self.names[1:]:
                self.node(name).join(self.node("node-0"))

    # --- what a test does to it --------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The nodes that run."""
        return [node.name for node in self.network.running()]

    def node(self, name: str) -> SimulatedNode:
        """A node, running or not."""
        return self.network.nodes[name]

    def start(self, name: str, *, clock_offset: float = 0.0) -> FleetCatalog:
        """Start a node, or start it anew, with an empty catalog.

        It remembers the addresses of the nodes that there were, as an agent does on its disk.

        Args:
            name: its name.
            clock_offset: by how many seconds its wall clock is wrong.
        """
        known = {node.address for node in self.network.nodes.values() if node.name != name}
        epoch = int(EPOCH_2023 + self.network.now + clock_offset)

        def tell_epoch(new: int) -> None:
            self.node(name).protocol.table.set_meta(encode_tags(with_epoch({}, new)))

        def on_event(event: MemberEvent) -> None:
            if event.kind is EventKind.FAILED:
                dead = DeclaredDead(self.network.now, name, event.member.name)
                self.declared_dead.append(dead)

        catalog = FleetCatalog(
            name,
            epoch,
            Random(self.network.rng.getrandbits(64)),
            self._catalog_config,
            on_event=on_event,
            on_epoch=tell_epoch,
            decoder=self._decoder,
            now=lambda: self.network.now,
        )
        self.catalogs[name] = catalog
        node = self.network.add(
            name,
            delegate=catalog,
            meta=encode_tags(with_epoch({}, epoch)),
            clock_offset=clock_offset,
        )
        if self.network.now > 0:
            node.protocol.remember(known)
        return catalog

    def put(
        self, node: str, service: str, health: Health = Health.HEALTHY, *, restarts: int = 0
    ) -> None:
        """Publish an instance, or its change."""
        address = self.node(node).address[0]
        instance = Instance(
            f"{service}.{node}",
            service,
            node,
            address,
            {"http": 8080},
            health,
            version="0123456789ab",
            restarts=restarts,
        )
        self.catalogs[node].publish_instance(instance)

    def run_for(self, seconds: float) -> None:
        """Let time pass, and look every second whether somebody's knowledge became older."""
        end = self.network.now + seconds
        while self.network.now < end:
            self.network.run_for(min(_SECOND, end - self.network.now))
            self._look()

    def converge(self, limit: float) -> float:
        """Let time pass until all agree on members and services; returns the seconds it took.

        Raises:
            AssertionError: when they do not within ``limit`` seconds.
        """
        started = self.network.now
        while not (self.network.agrees_on_members() and self.agrees_on_services()):
            if self.network.now - started >= limit:
                raise AssertionError(f"no agreement after {limit:g} s of virtual time")
            self.network.run_for(0.1)
            self._look()
        return self.network.now - started

    # --- asking ------------------------------------------------------------------------------

    def agrees_on_versions(self) -> bool:
        """Whether all know the last version of each running node's rows."""
        said = {name: self.versions(name)[name] for name in self.names}
        return all(said.items() <= self.versions(name).items() for name in self.names)

    def agrees_on_services(self) -> bool:
        """Whether all see the last thing that each running node said of its services."""
        if not self.agrees_on_versions():
            return False
        views = [self.catalogs[name].instances() for name in self.names]
        return all(view == views[0] for view in views)

    def versions(self, name: str) -> Mapping[str, tuple[int, int]]:
        """Epoch and version of each owner that a node knows."""
        return self.catalogs[name].versions()

    # --- inside ------------------------------------------------------------------------------

    def _acquaint(self) -> None:
        self.network.acquaint()
        first = self.catalogs["node-0"]
        for catalog in self.catalogs.values():
            catalog.introduce(first)
        for catalog in self.catalogs.values():
            catalog.acquaint(first)

    def _look(self) -> None:
        for node in self.network.running():
            catalog = self.catalogs[node.name]
            now = catalog.versions()
            earlier, before = self._seen.get(node.name, (catalog, {}))
            if earlier is catalog:
                for owner, known in before.items():
                    new = now.get(owner)
                    if new is not None and self._older(owner, new, known):
                        what = f"{node.name} knew {owner} at {known} and now at {new}"
                        self.went_back.append(f"{self.network.now:.1f}: {what}")
            self._seen[node.name] = (catalog, now)

    def _older(self, owner: str, new: tuple[int, int], known: tuple[int, int]) -> bool:
        """Whether what is known of an owner went back, other than to what it says now."""
        if new[0] == known[0]:
            return new[1] < known[1]
        return new[0] < known[0] and new[0] != self.catalogs[owner].epoch
