"""A simulated network of nodes that each have a catalog."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from constellation_core.catalog import Catalog, CatalogConfig, with_epoch
from constellation_core.catalog.messages import Message, encode
from constellation_core.gossip.config import GossipConfig
from constellation_core.gossip.member import encode_tags
from constellation_core.gossip.messages import UserMessage
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.testing.network import EPOCH_2023, SimulatedNetwork
from constellation_core.testing.simulated_node import SimulatedNode


class Fleet:
    """Nodes with catalogs, under a virtual clock::

        fleet = Fleet(3)
        fleet.put("node-1", "web")
        fleet.converge()
        assert fleet.health("node-2", "web.node-1") is Health.HEALTHY

    Args:
        size: so many nodes, ``node-0`` and so on, that know each other already.
        seed: of all chance.
        config: timing and limits of the catalogs.
        gossip: makes the gossip's settings from a node's name.
    """

    def __init__(
        self,
        size: int,
        seed: int = 1,
        config: CatalogConfig | None = None,
        gossip: Callable[[str], GossipConfig] = GossipConfig,
    ) -> None:
        self.network = SimulatedNetwork(seed, config=gossip)
        self.catalogs: dict[str, Catalog] = {}
        self._config = config
        for number in range(size):
            self.start(f"node-{number}")
        for name in self.names[1:]:
            self.node(name).join(self.node("node-0"))
        self.network.run_until(self.network.agrees_on_members, limit=30)

    # --- what a test does --------------------------------------------------------------------

    def start(
        self,
        name: str,
        epoch: int | None = None,
        *,
        clock_offset: float = 0.0,
        on_epoch: Callable[[int], None] = lambda _: None,
    ) -> Catalog:
        """Start a node; one of the same name that runs no more is replaced.

        One that ran before remembers the addresses of the others, as an agent does on its disk.

        Args:
            name: its name.
            epoch: of its rows; by default the time on its clock.
            clock_offset: by how many seconds its wall clock is wrong.
            on_epoch: told when it has to take another epoch, as the data directory is.
        """

        def wall() -> float:
            return EPOCH_2023 + self.network.now + clock_offset

        def tell_epoch(new: int) -> None:
            on_epoch(new)
            node.protocol.table.set_meta(encode_tags(with_epoch({}, new)))

        if epoch is None:
            epoch = int(wall())
        rng = Random(self.network.rng.getrandbits(64))
        catalog = Catalog(name, epoch, rng, self._config, on_epoch=tell_epoch, wall=wall)
        self.catalogs[name] = catalog
        meta = encode_tags(with_epoch({}, epoch))
        again = name in self.network.nodes
        node = self.network.add(name, delegate=catalog, meta=meta, clock_offset=clock_offset)
        if again:
            others = {other.address for other in self.network.nodes.values() if other is not node}
            node.protocol.remember(others)
        return catalog

    def put(
        self, node: str, service: str, health: Health = Health.HEALTHY, *, restarts: int = 0
    ) -> None:
        """Let a node publish an instance."""
        name, ports = f"{service}.{node}", {"http": 80}
        self.catalogs[node].publish_instance(
            Instance(name, service, node, "10.0.0.1", ports, health, restarts=restarts)
        )

    def tell(self, source: str, target: str, message: Message) -> None:
        """Let a node send any message of the catalog to another one, true or not."""
        node = self.node(source)
        node.protocol.send(self.node(target).address, UserMessage(encode(message)))
        node.flush()

    # --- asking ------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The nodes that run."""
        return [node.name for node in self.network.running()]

    def node(self, name: str) -> SimulatedNode:
        """A node of the network."""
        return self.network.nodes[name]

    def views(self) -> dict[str, list[Instance]]:
        """What each running node sees."""
        return {name: list(self.catalogs[name].instances()) for name in self.names}

    def agrees(self) -> bool:
        """Whether all running nodes see the same."""
        views = list(self.views().values())
        return all(view == views[0] for view in views)

    def converge(self, limit: float = 60) -> float:
        """Let time pass until all see the same; returns how many seconds it took."""
        return self.network.run_until(self.agrees, limit)

    def health(self, seen_by: str, instance: str) -> Health | None:
        """How a node sees an instance."""
        found = self.catalogs[seen_by].instance(instance)
        return found.health if found else None

    def all_see(self, instance: str, health: Health | None) -> bool:
        """Whether all running nodes see an instance in this state."""
        return all(self.health(name, instance) is health for name in self.names)
