"""How the etcd cluster is, as far as this node can tell."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from constellation_core.consensus import ConsensusError
from constellation_core.consensus.clock import BootClock
from constellation_plugin_etcd.client import EtcdClient
from constellation_plugin_etcd.exchange import Document
from constellation_plugin_etcd.gateway import STATUS, HttpGateway
from constellation_plugin_etcd.messages import Span

log = logging.getLogger("constellation.plugins.etcd")

INTERVAL = 10.0
_TIMEOUT = 2.0
_MEMBERS = "/v3/cluster/member/list"


@dataclass(frozen=True, slots=True)
class Health:
    """What was seen at the latest look.

    Attributes:
        available: a read that a majority confirmed was answered.
        leader: name of the member that leads, or its number.
        members: how many the cluster has; 0 while that is not known.
        endpoints: what is known of each URL, ready for JSON.
        problems: what is wrong, in sentences for people.
    """

    available: bool = False
    leader: str | None = None
    members: int = 0
    endpoints: tuple[Mapping[str, Any], ...] = ()
    problems: tuple[str, ...] = ("etcd was not asked yet",)


class Watch:
    """Looks at the cluster from time to time.

    Attributes:
        health: the latest view.
    """

    def __init__(
        self, gateway: HttpGateway, client: EtcdClient, clock: BootClock, prefix: bytes
    ) -> None:
        self.health = Health()
        self._gateway = gateway
        self._client = client
        self._clock = clock
        self._ledger = Span(prefix + b"ledger")

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            health = await self.look()
            await self._clock.sleep(INTERVAL if health.available else INTERVAL / 5)

    async def look(self) -> Health:
        """Look once, and note what was seen."""
        trouble: list[str] = []
        try:
            await self._client.range(self._ledger, timeout=_TIMEOUT)
        except ConsensusError as error:
            trouble.append(f"etcd does not answer: {error}")
        statuses = await self._gateway.ask_each(STATUS, _TIMEOUT)
        names = await self._names()
        answers = {url: got for url, got in statuses.items() if isinstance(got, dict)}
        trouble += [_failed(url, str(got)) for url, got in statuses.items() if url not in answers]
        trouble += _alarms(answers)
        trouble += sorted(self._gateway.problems)
        trouble += _old(answers)
        trouble += _size(len(names))
        leaders = {str(got["leader"]) for got in answers.values() if "leader" in got}
        leader = leaders.pop() if len(leaders) == 1 else None
        endpoints = tuple(_endpoint(url, got, names) for url, got in statuses.items())
        available = not trouble or not trouble[0].startswith("etcd does not answer")
        before, self.health = (
            self.health,
            Health(
                available,
                names.get(leader, leader) if leader else None,
                len(names),
                endpoints,
                tuple(dict.fromkeys(trouble)),
            ),
        )
        for problem in set(self.health.problems) - set(before.problems):
            log.warning("%s", problem)
        return self.health

    async def _names(self) -> Mapping[str, str]:
        """The members' names by their numbers; none when nobody tells."""
        try:
            answer = await self._gateway.call(_MEMBERS, {}, timeout=_TIMEOUT, leader=False)
        except ConsensusError:
            return {}
        return {
            str(each.get("ID")): str(each.get("name") or each.get("ID"))
            for each in answer.get("members") or ()
            if isinstance(each, dict)
        }


def _endpoint(
    url: str, got: Document | ConsensusError, names: Mapping[str, str]
) -> Mapping[str, Any]:
    if not isinstance(got, dict):
        return {"url": url, "reachable": False, "member": None, "leads": False, "version": None}
    number = str((got.get("header") or {}).get("member_id"))
    return {
        "url": url,
        "reachable": True,
        "member": names.get(number, number),
        "leads": got.get("leader") == number,
        "version": str(got.get("version", "")),
    }


def _failed(url: str, reason: str) -> str:
    return reason if url in reason else f"{url}: {reason}"


def _alarms(answers: Mapping[str, Document]) -> list[str]:
    return [
        f"{url} reports: {text}"
        for url, got in answers.items()
        for text in got.get("errors") or ()
        if isinstance(text, str)
    ]


def _old(answers: Mapping[str, Document]) -> list[str]:
    """A deposed leader of these versions ends leases that others renew (etcd issue 15247)."""
    old = set()
    for got in answers.values():
        version = str(got.get("version", ""))
        numbers = tuple(int(part) for part in version.split("-")[0].split(".") if part.isdigit())
        if numbers < (3, 4, 31) or (3, 5) <= numbers < (3, 5, 13):
            old.add(version)
    return [
        f"etcd {version} may end a lease that is held when its leader hangs; "
        "3.4.31, 3.5.13 and later do not"
        for version in sorted(old)
    ]


def _size(members: int) -> list[str]:
    if members == 1:
        return ["etcd has one member: when it is gone, so is everything"]
    if members == 2:
        return ["etcd has two members, of which neither can be spared; a third protects both"]
    return []
