"""What must hold between the fields of one definition, and what follows from them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from constellation_core.model.jobs import dependency_problems, job_problems
from constellation_core.model.networks import HOST_NETWORK, network_problems
from constellation_core.model.port import check_ports
from constellation_core.model.secrets import secret_problems
from constellation_core.model.volumes import Volume, mount_problems

if TYPE_CHECKING:
    from constellation_core.model.service import Service


@dataclass(frozen=True, slots=True)
class Overlap:
    """Whether two instances of a service can run on one node at the same time.

    Attributes:
        possible: whether they can at all.
        safe: whether nothing that is defined speaks against it.
        reason: what does, for people; ``""`` when it is safe.
    """

    possible: bool = True
    safe: bool = True
    reason: str = ""


def host_ports(service: Service) -> Mapping[str, int]:
    """The fixed ports of the node that an instance takes, by the ports' names."""
    on_the_node = service.image is None or _in_host_network(service)
    numbers = {port.name: port.number if on_the_node else port.host for port in service.ports}
    return {name: number for name, number in numbers.items() if number}


def overlap(service: Service) -> Overlap:
    """Whether an old and a new instance of ``service`` can run beside each other on one node."""
    if service.mode == "singleton":
        reason = "it is a singleton, of which two never run"
        return Overlap(possible=False, safe=False, reason=reason)
    for name, number in host_ports(service).items():
        reason = f"port {name!r} is the fixed port {number} of the node, which only one has"
        return Overlap(possible=False, safe=False, reason=reason)
    for mount in service.volumes:
        if isinstance(mount, Volume) and not mount.read_only:
            reason = f"it writes to the volume {mount.name!r}, which two would share"
            return Overlap(possible=True, safe=False, reason=reason)
    return Overlap()


def problems(service: Service) -> Iterator[str]:
    """What is wrong with ``service`` as a whole, each with how to mend it."""
    yield from _program_problems(service)
    try:
        check_ports(service.ports, service.routes, service.check)
    except ValueError as error:
        yield str(error)
    yield from _host_port_problems(service)
    yield from mount_problems(service.volumes)
    yield from network_problems(service.attached_networks)
    yield from secret_problems(service.secret_files, service.env)
    yield from dependency_problems(service.name, service.dependencies)
    yield from job_problems(service.init, has_image=service.image is not None)
    yield from _mode_problems(service)
    yield from _update_problems(service)


def _program_problems(service: Service) -> Iterator[str]:
    if service.image is None and not service.command:
        yield "it needs image='...' or command=('...',), or both"
    if service.command and not service.command[0]:
        yield "command is empty"
    if service.image is not None:
        if service.workdir is not None and not posixpath.isabs(service.workdir):
            yield "workdir: in a container it is an absolute path"
        return
    if service.entrypoint is not None:
        yield "entrypoint: replaces that of an image, and there is none; write command=(...)"
    if service.pull != "missing":
        yield "pull: there is no image to pull"


def _host_port_problems(service: Service) -> Iterator[str]:
    for port in service.ports:
        if not port.host and port.publish == "node":
            continue
        written = f"host={port.host}" if port.host else f"publish={port.publish!r}"
        if service.image is None:
            yield (
                f"port {port.name!r}: {written} is for containers; a process listens on the node "
                f"itself, at Port({port.name!r}, NUMBER)"
            )
        elif _in_host_network(service):
            yield (
                f"port {port.name!r}: {written} has no effect in the network 'host'; its number is "
                "that of the node"
            )


def _mode_problems(service: Service) -> Iterator[str]:
    placement = service.placement
    if service.mode == "global" and service.replicas != 1:
        yield "replicas: mode='global' runs one on every node that fits; leave replicas out"
    if service.mode == "singleton" and service.replicas > 1:
        yield (
            f"replicas: mode='singleton' never runs {service.replicas}; leave replicas out, or mode"
        )
    if service.mode == "singleton" and service.when_isolated == "keep":
        yield (
            "when_isolated: a singleton stops when its node is cut off, since another node starts "
            "it then; leave it out"
        )
    if service.mode != "replicated" and placement.max_per_node is not None:
        yield f"placement.max_per_node: mode={service.mode!r} never runs two on a node"
    if service.mode == "global" and placement.prefer:
        yield "placement.prefer: mode='global' runs on every node that fits, so none is preferred"
    apart_from = [placement.apart_from, *(each.apart_from for each in placement.prefer)]
    if any(service.name in each for each in apart_from):
        yield "placement.apart_from: names the service itself; write max_per_node=1"


def _update_problems(service: Service) -> Iterator[str]:
    found = overlap(service)
    if service.update.order == "start-first" and not found.possible:
        yield f"update.order: 'start-first' cannot be: {found.reason}; write 'stop-first'"


def _in_host_network(service: Service) -> bool:
    return any(network.name == HOST_NETWORK for network in service.attached_networks)
