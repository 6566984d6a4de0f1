"""Rows of the catalog: what one node says of its instances and services, and the wire form.

A row has a key, a version that grows with every change of its owner's, and a value. The key's
first letter is the kind: ``i/INSTANCE-ID`` or ``s/SERVICE``. A row without a value is a
tombstone. Every row that comes from the network is checked here before it is kept or told
to anybody else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgpack

from constellation_core.gossip.unpack import unpack_small
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance
from constellation_core.model.names import check_label
from constellation_core.model.published import PublishedService

INSTANCE = "i/"
SERVICE = "s/"

MAX_ROW = 16_384
MAX_ROWS = 5_000
MAX_PUBLISHED = 1024 * 1024
"""A node whose rows count for more publishes no further ones; see :attr:`Row.size`."""
MAX_OWNER = 2 * MAX_PUBLISHED
"""The most that is taken of one owner: what it publishes already may grow, as when it fails."""
_ROW_COST = 100
_MAX_TEXT = 200
_MAX_TAGS = 64


class RowError(ValueError):
    """A row that must not be kept; the text says why."""


Value = Instance | PublishedService


@dataclass(frozen=True, slots=True)
class Row:
    """One row of one owner.

    Attributes:
        key: kind and name.
        version: the owner's counter when it was last changed.
        data: the encoded value; empty for a tombstone.
        value: the decoded value; ``None`` for a tombstone.
    """

    key: str
    version: int
    data: bytes
    value: Value | None

    @property
    def size(self) -> int:
        """What it counts for, in bytes: more than on the wire, for it costs more in memory."""
        return len(self.key) + len(self.data) + _ROW_COST


def instance_row(instance: Instance, version: int) -> Row:
    """The row that publishes ``instance``.

    Raises:
        RowError: when other nodes would refuse it.
    """
    data = msgpack.packb(
        [
            instance.service,
            instance.address,
            dict(sorted(instance.ports.items())),
            int(instance.health),
            instance.weight,
            [_printable(tag) for tag in instance.tags],
            instance.version,
            _printable(instance.reason)[:_MAX_TEXT],
            instance.restarts,
        ]
    )
    return decode_row(instance.node, INSTANCE + instance.id, version, data)


def service_row(service: PublishedService, owner: str, version: int) -> Row:
    """The row that publishes a definition.

    Raises:
        RowError: when other nodes would refuse it.
    """
    data = msgpack.packb(service.to_wire())
    return decode_row(owner, SERVICE + service.name, version, data)


def decode_row(owner: str, key: str, version: int, data: bytes) -> Row:
    """Check and decode one row.

    Raises:
        RowError: when it is not what a row of ``owner`` may be.
    """
    if len(data) > MAX_ROW:
        raise RowError(f"{key}: {len(data)} bytes, {MAX_ROW} are allowed")
    try:
        _check_key(owner, key)
        if not data:
            return Row(key, version, b"", None)
        plain = unpack_small(data)
        value: Value
        if key.startswith(INSTANCE):
            value = _instance(owner, key[len(INSTANCE) :], plain)
        else:
            value = _service(key[len(SERVICE) :], plain)
    except (msgpack.UnpackException, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = " ".join(str(error).split())[:_MAX_TEXT]
        raise RowError(f"{key[:80]}: {type(error).__name__}: {reason}") from None
    return Row(key, version, data, value)


def owners_of(instance_id: str) -> tuple[str, str]:
    """The nodes that may publish an instance of this id: ``SERVICE.NODE`` or ``SERVICE.NODE.N``.

    Node names may have dots, so that an id can mean two nodes; the first one has it then.
    """
    node = instance_id.partition(".")[2]
    return node, node.rpartition(".")[0]


def _check_key(owner: str, key: str) -> None:
    kind, name = key[: len(INSTANCE)], key[len(INSTANCE) :]
    if kind == SERVICE:
        check_label(name)
    elif kind == INSTANCE:
        check_label(name.partition(".")[0])
        node, before_number = owners_of(name)
        number = name.rpartition(".")[2]
        if node != owner and not (
            before_number == owner and number.isascii() and number.isdecimal()
        ):
            raise ValueError(f"an instance on {owner} must be called SERVICE.{owner}")
    else:
        raise ValueError("unknown kind of row")


def _service(name: str, plain: Any) -> PublishedService:
    service = PublishedService.from_wire(plain)
    if service.name != name:
        raise ValueError("the key names another service")
    return service


def _instance(owner: str, instance_id: str, plain: Any) -> Instance:
    service, address, ports, health, weight, tags, version, reason, restarts = plain
    if _text(service) != instance_id.partition(".")[0]:
        raise ValueError(f"an instance of {service[:63]} on {owner} cannot be called so")
    _check_address(_text(address))
    if not isinstance(ports, dict) or len(ports) > _MAX_TAGS:
        raise ValueError("ports is not a small map")
    for name, number in ports.items():
        check_label(_text(name))
        _number(number, 1, 65_535)
    state = Health(_number(health, Health.STOPPED, Health.HEALTHY))
    return Instance(
        id=instance_id,
        service=service,
        node=owner,
        address=address,
        ports=ports,
        health=state,
        weight=_number(weight, 0, 1000),
        tags=tuple(_text(tag) for tag in _few(tags)),
        version=_text(version),
        reason=_text(reason),
        restarts=_number(restarts, 0, 2**32),
    )


@lru_cache(maxsize=1024)
def _check_address(text: str) -> None:
    ipaddress.ip_address(text)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ValueError(f"not a text of at most {_MAX_TEXT} characters")
    if not value.isprintable():
        # It would be shown on the terminals of every node.
        raise ValueError("a text with control characters")
    return value


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else " " for each in text)


def _number(value: Any, lowest: int, highest: int) -> int:
    if type(value) is not int or not lowest <= value <= highest:
        raise ValueError(f"not a number from {int(lowest)} to {int(highest)}")
    return value


def _few(value: Any) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > _MAX_TAGS:
        raise ValueError(f"not a list of at most {_MAX_TAGS}")
    return value
