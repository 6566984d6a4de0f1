"""Turns what the membership and the catalog say into plugin events and journal entries."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from constellation_core.agent.journal import EventJournal
from constellation_core.catalog import Catalog, Change, InstanceChanged, ServiceChanged, node_of
from constellation_core.consensus.leases import LeaseView
from constellation_core.gossip import EventKind, MemberEvent
from constellation_core.model.instance import Instance
from constellation_core.model.node import NodeState
from constellation_core.plugins.delivery import EventDelivery
from constellation_core.plugins.events import PluginEvent

log = logging.getLogger("constellation.agent")


class EventBridge:
    """Publishes every change twice: to the plugins, and to the journal."""

    def __init__(self, delivery: EventDelivery, journal: EventJournal) -> None:
        self._delivery = delivery
        self._journal = journal

    def on_member(self, event: MemberEvent) -> None:
        """A node joined, failed, left, changed or was in conflict."""
        node = node_of(event.member)
        where = f"{node.address}:{node.port}"
        subject = ("node", node.name)
        match event.kind:
            case EventKind.JOINED:
                self._publish("node_joined", subject, node=node)
                self._journal.add("node-joined", node.name, f"joined from {where}")
            case EventKind.FAILED:
                self._publish("node_failed", subject, node=node)
                self._journal.add("node-failed", node.name, "was declared dead")
            case EventKind.LEFT:
                self._publish("node_left", subject, node=node)
                self._journal.add("node-left", node.name, "said goodbye")
            case EventKind.UPDATED if event.previous is not None:
                before = node_of(event.previous)
                self._publish("node_updated", subject, node=node, previous=before)
                if node.state is NodeState.SUSPECT:
                    self._journal.add("node-suspect", node.name, "does not answer")
                elif before.state is NodeState.SUSPECT:
                    self._journal.add("node-recovered", node.name, "answers again")
                else:
                    self._journal.add("node-updated", node.name, "changed what it tells of itself")
            case EventKind.CONFLICT:
                self._journal.add(
                    "node-conflict",
                    node.name,
                    f"{where} claims the name of a node that lives elsewhere; refused",
                )
            case EventKind.ADDRESS_CONFLICT if event.previous is not None:
                self._journal.add(
                    "node-conflict",
                    node.name,
                    f"is said to be at {where}, where {event.previous.name} is; the one that "
                    "answers there stays",
                )
            case EventKind.NAME_LOST:
                log.error(
                    "another node at %s is called %s too, and was there first: this node stays "
                    "silent; give one of the two another [agent] name and restart it",
                    where,
                    node.name,
                )
                self._journal.add(
                    "node-conflict",
                    node.name,
                    f"{where} had this node's name first; this node stays silent",
                )

    def on_catalog(self, change: Change) -> None:
        """An instance or a definition changed."""
        if isinstance(change, InstanceChanged):
            self._on_instance(change.instance, change.previous)
        else:
            self._on_service(change)

    def lease_acquired(self, name: str, lease: LeaseView) -> None:
        """Some agent holds a lease now."""
        self._publish("lease_acquired", ("lease", name), name=name, lease=lease)
        self._journal.add(
            "lease-acquired", name, f"is held by {lease.node}", node=lease.node, epoch=lease.epoch
        )

    def lease_lost(self, name: str, lease: LeaseView, successor: LeaseView | None) -> None:
        """A lease is not held any more as it was; ``successor`` is how it is held now."""
        self._publish("lease_lost", ("lease", name), name=name, lease=lease)
        passed_on = f", but by {successor.node}" if successor is not None else ""
        self._journal.add(
            "lease-lost",
            name,
            f"is not held by {lease.node} any more{passed_on}",
            node=lease.node,
            epoch=lease.epoch,
        )

    def leader_changed(self, leader: str | None, previous: str | None) -> None:
        """Another voter leads, or none."""
        subject = ("consensus", "leader")
        self._publish("leader_changed", subject, leader=leader, previous=previous)
        self._journal.add(
            "leader-changed",
            leader or previous or "",
            "leads consensus" if leader is not None else "leads consensus no more",
            previous=previous,
        )

    def introduce(
        self, name: str, catalog: Catalog, leases: Mapping[str, LeaseView], leader: str | None
    ) -> None:
        """Tell a plugin that has just started what is there already."""
        for member in catalog.nodes():
            if member.name != catalog.node and member.state in (NodeState.ALIVE, NodeState.SUSPECT):
                event = PluginEvent("node_joined", ("node", member.name), {"node": member})
                self._delivery.publish(event, only=name)
        for service in catalog.services().values():
            arguments = {"service": service, "previous": None}
            event = PluginEvent("service_changed", ("service", service.name), arguments)
            self._delivery.publish(event, only=name)
        for instance in catalog.instances():
            known = {"instance": instance, "previous": None}
            event = PluginEvent("instance_changed", ("instance", instance.id), known)
            self._delivery.publish(event, only=name)
        for lease_name, lease in leases.items():
            held = {"name": lease_name, "lease": lease}
            event = PluginEvent("lease_acquired", ("lease", lease_name), held)
            self._delivery.publish(event, only=name)
        if leader is not None:
            leads = {"leader": leader, "previous": None}
            event = PluginEvent("leader_changed", ("consensus", "leader"), leads)
            self._delivery.publish(event, only=name)

    def _on_instance(self, instance: Instance | None, previous: Instance | None) -> None:
        if instance is None:
            if previous is not None:
                self._publish("instance_removed", ("instance", previous.id), instance=previous)
                self._journal.add("instance-removed", previous.id, "is gone")
            return
        subject = ("instance", instance.id)
        self._publish("instance_changed", subject, instance=instance, previous=previous)
        if previous is None:
            self._journal.add(
                "instance-added", instance.id, f"is {instance.health.label}", **_health(instance)
            )
        elif previous.health is not instance.health:
            health = ("health", instance.id)
            self._publish("health_changed", health, instance=instance, previous=previous)
            reason = f": {instance.reason}" if instance.reason else ""
            self._journal.add(
                "health-changed",
                instance.id,
                f"{previous.health.label} → {instance.health.label}{reason}",
                previous=previous.health.label,
                **_health(instance),
            )

    def _on_service(self, change: ServiceChanged) -> None:
        current = change.service or change.previous
        if current is None:
            return
        self._publish(
            "service_changed",
            ("service", current.name),
            service=change.service,
            previous=change.previous,
        )
        if change.service is None:
            self._journal.add("service-removed", current.name, "is no longer defined by any node")
        elif change.previous is None:
            self._journal.add("service-added", current.name, "is defined")
        else:
            self._journal.add("service-changed", current.name, "has a new definition in force")

    def _publish(self, hook: str, subject: tuple[str, str], **arguments: object) -> None:
        self._delivery.publish(PluginEvent(hook, subject, arguments))


def _health(instance: Instance) -> dict[str, str]:
    return {"health": instance.health.label, "node": instance.node, "reason": instance.reason}
