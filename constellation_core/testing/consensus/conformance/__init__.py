"""What every consensus backend has to do, as scenarios that know no backend.

A backend's test gives them a :class:`~.fleet.Fleet`::

    @pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
    async def test_conformance(scenario: Scenario, fleet: Fleet) -> None:
        await scenario(fleet)

They run in real and in virtual time alike.
"""

from __future__ import annotations

from constellation_core.testing.consensus.conformance.faults import FAULT_SCENARIOS
from constellation_core.testing.consensus.conformance.fleet import Fleet, Scenario
from constellation_core.testing.consensus.conformance.leases import LEASE_SCENARIOS
from constellation_core.testing.consensus.conformance.store import STORE_SCENARIOS

SCENARIOS: tuple[Scenario, ...] = (*STORE_SCENARIOS, *LEASE_SCENARIOS, *FAULT_SCENARIOS)

__all__ = ["SCENARIOS", "Fleet", "Scenario"]
