"""A node of ours in a process of its own, to be killed and paused: says in JSON lines what it sees.

It takes its settings as one argument in JSON, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from constellation_core.gossip import Gossip, GossipConfig, Keyring, MemberEvent, NoDelegate
from constellation_core.gossip.serf import SerfDelegate


@dataclass(frozen=True)
class Settings:
    """What the argument says; ``gossip`` are settings of the protocol."""

    host: str
    seed: str
    serf: bool
    key_file: str = ""
    gossip: dict[str, object] = field(default_factory=dict)

    @property
    def key(self) -> bytes:
        return base64.b64decode(Path(self.key_file).read_text())


def say(kind: str, **fields: object) -> None:
    print(json.dumps({"kind": kind, **fields}), flush=True)  # noqa: T201


def tell(event: MemberEvent) -> None:
    say(event.kind.value, name=event.member.name, state=event.member.state.value)


class Teller(NoDelegate):
    """Says what happens to members."""

    def on_event(self, event: MemberEvent) -> None:
        tell(event)


async def main(settings: Settings) -> None:
    keyring = Keyring([settings.key]) if settings.key_file else None
    config = GossipConfig(**settings.gossip)  # type: ignore[arg-type]
    gossip = Gossip(
        config,
        bind=(settings.host, 0),
        keyring=keyring,
        delegate=SerfDelegate(config.name, on_member_event=tell) if settings.serf else Teller(),
    )
    await gossip.start()
    try:
        (result,) = await gossip.join([settings.seed])
        say("ready", joined=result.joined, reason=result.reason)
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await gossip.close()


if __name__ == "__main__":
    values = json.loads(sys.argv[1])
    for name in ("delegate_versions", "protocol_versions"):
        if name in values["gossip"]:
            values["gossip"][name] = tuple(values["gossip"][name])
    asyncio.run(main(Settings(**values)))
