"""What the conformance tests share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from constellation_core.testing.free_ports import PortPicker
from tests.conformance.world import ALL_TERMS, KINDS, Scenario, Terms, World, world_of


@pytest.fixture(params=ALL_TERMS, ids=str)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A cluster to come: with each peer, encrypted and not, over IPv4 and IPv6."""
    request.param.require()
    async with world_of(request.param, tmp_path, PortPicker()) as each:
        yield each


@pytest.fixture(params=[terms for terms in ALL_TERMS if terms.kind == "go"], ids=str)
async def each_go_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A cluster to come with the Go program: encrypted and not, over IPv4 and IPv6."""
    request.param.require()
    async with world_of(request.param, tmp_path, PortPicker()) as each:
        yield each


@pytest.fixture(params=[Terms(kind, True, "127.0.0.1") for kind in KINDS], ids=str)
async def encrypted_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A cluster to come with each peer, encrypted, over IPv4."""
    request.param.require()
    async with world_of(request.param, tmp_path, PortPicker()) as each:
        yield each


@pytest.fixture
async def go_world(tmp_path: Path) -> AsyncIterator[World]:
    """A cluster to come with the Go program, encrypted."""
    terms = Terms("go", True, "127.0.0.1")
    terms.require()
    async with world_of(terms, tmp_path, PortPicker()) as each:
        yield each


@pytest.fixture
async def serf_world(tmp_path: Path) -> AsyncIterator[World]:
    """A cluster to come with Serf, encrypted."""
    terms = Terms("serf", True, "127.0.0.1")
    terms.require()
    async with world_of(terms, tmp_path, PortPicker()) as each:
        yield each


@pytest.fixture(params=KINDS)
def in_all_worlds(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[Scenario], Awaitable[None]]:
    """Plays a scenario that takes long in all clusters of one peer at the same time."""
    all_terms = [terms for terms in ALL_TERMS if terms.kind == request.param]
    for terms in all_terms:
        terms.require()
        (tmp_path / str(terms)).mkdir()
    ports = PortPicker()

    async def play(scenario: Scenario) -> None:
        async def one(terms: Terms) -> None:
            try:
                async with world_of(terms, tmp_path / str(terms), ports) as world:
                    await scenario(world)
            except Exception as error:
                error.add_note(f"in the cluster {terms}")
                raise

        async with asyncio.TaskGroup() as group:
            for terms in all_terms:
                group.create_task(one(terms))

    return play
