"""What must hold between the services of one cluster, or of one services file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

from constellation_core.model.networks import Network
from constellation_core.model.service import Service
from constellation_core.model.words import did_you_mean, nearest


def problems_between(
    services: Sequence[Service], known: Collection[str] | None = None
) -> Iterator[str]:
    """What is wrong with ``services`` beside each other, each with how to mend it.

    Args:
        services: the definitions.
        known: names of services that are defined elsewhere. ``None`` when that is not known:
            then a service may depend on one that is not there.
    """
    names = [service.name for service in services]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"two services are named {name!r}; names must be unique"
    yield from _cycles(services)
    yield from _networks(services)
    if known is not None:
        yield from _unknown(services, {*names, *known})


def _cycles(services: Sequence[Service]) -> Iterator[str]:
    graph = {service.name: [each.service for each in service.dependencies] for service in services}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # As graphlib has it, each is waited for by the next.
        yield f"services wait for each other: {' -> '.join(reversed(error.args[1]))}"


def _networks(services: Sequence[Service]) -> Iterator[str]:
    first: dict[str, tuple[str, Network]] = {}
    for service in services:
        for network in service.attached_networks:
            user, other = first.setdefault(network.name, (service.name, network))
            if other != network:
                yield (
                    f"services {user!r} and {service.name!r} define the network {network.name!r} "
                    "in two ways; make it one value, and use it in both"
                )


def _unknown(services: Sequence[Service], known: Collection[str]) -> Iterator[str]:
    for service in services:
        for each in service.dependencies:
            if each.service not in known:
                near = did_you_mean(nearest(each.service, known))
                yield (
                    f"service {service.name!r}: depends_on: there is no service "
                    f"{each.service!r}{near}"
                )
