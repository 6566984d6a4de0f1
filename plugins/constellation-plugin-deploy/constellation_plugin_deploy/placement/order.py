"""In which order services are placed: who comes later takes what is left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from constellation_core import Service

_MODES = {"global": 0, "singleton": 1, "replicated": 2}


def in_order(services: Iterable[Service]) -> tuple[Service, ...]:
    """The order of placement: it follows from the definitions alone.

    Those that need much come before those that fit anywhere: first the ``global`` ones, then
    singletons, then what reserves the most memory, then the most CPUs, then by name. But a
    service that is to be apart from others, or prefers it, comes after them, since it is the one
    that yields. In a circle of such, the first in the order above does not.

    Raises:
        ValueError: when two services have the same name.
    """
    ordered = sorted(services, key=_need)
    by_name = {service.name: service for service in ordered}
    if len(by_name) != len(ordered):
        names = [service.name for service in ordered]
        raise ValueError(f"two services are named {next(n for n in names if names.count(n) > 1)!r}")
    done: dict[str, Service] = {}
    for service in ordered:
        _visit(service, by_name, done)
    return tuple(done.values())


def _need(service: Service) -> tuple[int, int, float, str]:
    resources = service.resources
    return (
        _MODES[service.mode],
        -resources.reserved_bytes,
        -(resources.reserve_cpu or 0),
        service.name,
    )


def _visit(first: Service, by_name: Mapping[str, Service], done: dict[str, Service]) -> None:
    if first.name in done:
        return
    entered = {first.name}
    # No recursion: a chain of services may be longer than Python's stack.
    path = [(first, iter(_others(first)))]
    while path:
        service, others = path[-1]
        for name in others:
            other = by_name.get(name)
            if other is not None and name not in done and name not in entered:
                entered.add(name)
                path.append((other, iter(_others(other))))
                break
        else:
            path.pop()
            done[service.name] = service


def _others(service: Service) -> tuple[str, ...]:
    placement = service.placement
    if not placement.prefer:
        return placement.apart_from
    return (
        *placement.apart_from,
        *(name for each in placement.prefer for name in each.apart_from),
    )
