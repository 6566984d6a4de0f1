"""The built-in voters do what every backend has to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from constellation_core.testing.consensus.conformance import SCENARIOS, Scenario
from constellation_core.testing.consensus.loopback import LoopbackFleet

pytestmark = pytest.mark.integration


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    made = LoopbackFleet(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_the_built_in_voters_conform(scenario: Scenario, fleet: LoopbackFleet) -> None:
    await scenario(fleet)
