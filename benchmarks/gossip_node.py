"""A gossip node as a process: ``python gossip_node.py SETTINGS.json``.

Runs one :class:`~constellation_core.gossip.Gossip` with an encrypted keyring and the catalog on
it, and writes a JSON object in a line for each change in its view. On SIGUSR1 it writes what it
has sent so far.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import signal
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

from constellation_core.catalog import Catalog, with_epoch
from constellation_core.gossip import Gossip, GossipConfig, Keyring, MemberEvent, encode_tags
from constellation_core.model.health import Health
from constellation_core.model.instance import Instance

_RETRY = 0.5


def _say(**document: Any) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def _on_event(event: MemberEvent) -> None:
    _say(event=event.kind.value, member=event.member.name)


async def _run(settings: dict[str, Any]) -> None:
    name = settings["name"]
    host, _, port = settings["bind"].rpartition(":")
    epoch, rng = int(time.time()), Random()
    config = GossipConfig.lan(name) if settings["lan"] else GossipConfig(name)
    catalog = Catalog(name, epoch, rng, on_event=_on_event)
    gossip = Gossip(
        config,
        bind=(host, int(port)),
        keyring=Keyring([base64.b64decode(settings["key"])]),
        delegate=catalog,
        meta=encode_tags(with_epoch({"version": "benchmark"}, epoch)),
        incarnation=epoch,
        rng=rng,
    )
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await gossip.start()
    try:
        catalog.publish_instance(
            Instance(f"web.{name}", "web", name, host, {"http": 80}, Health.HEALTHY)
        )

        def tell() -> None:
            stats = gossip.protocol.stats
            _say(sent=stats.bytes_out + stats.stream_bytes_out)

        loop.add_signal_handler(signal.SIGUSR1, tell)
        gc.collect()
        gc.freeze()
        _say(event="ready", member=name)
        joined = not settings["seeds"]
        while not joined:
            joined = any(result.joined for result in await gossip.join(settings["seeds"]))
            await asyncio.sleep(0 if joined else _RETRY)
        await stop.wait()
    finally:
        await gossip.close()


if __name__ == "__main__":
    asyncio.run(_run(json.loads(Path(sys.argv[1]).read_text())))
