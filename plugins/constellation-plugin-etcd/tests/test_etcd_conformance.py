"""etcd does what every consensus backend has to do: real members, some of them killed."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest

from constellation_core.testing.consensus.conformance import SCENARIOS, Scenario
from constellation_plugin_etcd.testing.fleet import EtcdFleet
from constellation_plugin_etcd.testing.members import Members

ETCD = shutil.which("etcd")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)"),
]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    made = Members(ETCD or "etcd", tmp_path_factory.mktemp("etcd"))
    made.start_all()
    yield made
    made.kill_all()


@pytest.fixture
async def fleet(members: Members, request: pytest.FixtureRequest) -> AsyncIterator[EtcdFleet]:
    # What a scenario has killed and not started again is started here.
    members.start_all()
    made = EtcdFleet(members, f"/{request.node.name.partition('[')[2].rstrip(']')}/")
    yield made
    await made.stop()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_etcd_conforms(scenario: Scenario, fleet: EtcdFleet) -> None:
    await scenario(fleet)
