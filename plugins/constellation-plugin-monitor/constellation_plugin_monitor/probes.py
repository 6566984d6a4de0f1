"""The checks themselves: one attempt each, bounded in time and in what is read."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import aiohttp

from constellation_core import (
    DriverCheck,
    ExecCheck,
    HTTPCheck,
    Instance,
    PluginContext,
    Service,
    TCPCheck,
)
from constellation_core.model.check import AnyCheck


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt found; ``detail`` says why it failed."""

    passed: bool
    detail: str = ""


class Prober:
    """Runs checks; one HTTP session serves all of them.

    To be used as an async context manager.
    """

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Prober:
        # A check is about a new connection: a kept one proves less, and costs the service one.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def attempt(self, check: AnyCheck, service: Service, instance: Instance) -> Outcome:
        """One attempt, within ``check.timeout`` seconds. Never raises for a sick instance."""
        try:
            async with asyncio.timeout(check.timeout):
                match check:
                    case HTTPCheck():
                        return await self._http(check, service, instance)
                    case TCPCheck():
                        return await self._tcp(check, service, instance)
                    case ExecCheck():
                        return await self._exec(check, instance)
                    case DriverCheck():
                        return self._driver(instance)
        except TimeoutError:
            return Outcome(False, f"no answer within {check.timeout:g} s")
        except aiohttp.ClientConnectorError as error:
            return Outcome(False, _os_error(error.os_error))
        except aiohttp.ClientError as error:
            return Outcome(False, f"not HTTP: {type(error).__name__}")
        except OSError as error:
            return Outcome(False, _os_error(error))
        except KeyError:
            raise
        except Exception as error:  # noqa: BLE001 - see below
            # A check that cannot be made is a failed one: it must not end those of others.
            return Outcome(False, f"the check cannot be made: {type(error).__name__}: {error}")

    async def _http(self, check: HTTPCheck, service: Service, instance: Instance) -> Outcome:
        if self._session is None:
            raise RuntimeError("the prober is not entered")
        port = instance.ports[service.port(check.port).name]
        url = f"{check.scheme}://{_literal(instance.address)}:{port}{check.path}"
        # The body is not read: the status is the answer, and a body may have no end.
        async with self._session.get(
            url, headers=check.headers, allow_redirects=False, ssl=False
        ) as response:
            lowest, highest = check.statuses
            if lowest <= response.status <= highest:
                return Outcome(True)
            return Outcome(False, f"GET {check.path} answered {response.status}")

    async def _tcp(self, check: TCPCheck, service: Service, instance: Instance) -> Outcome:
        port = instance.ports[service.port(check.port).name]
        _, writer = await asyncio.open_connection(instance.address, port)
        writer.close()
        return Outcome(True)

    async def _exec(self, check: ExecCheck, instance: Instance) -> Outcome:
        try:
            status, output = await self._context.local.execute(
                instance.id, check.command, check.timeout
            )
        except RuntimeError as error:
            return Outcome(False, str(error))
        if status == 0:
            return Outcome(True)
        last = output.splitlines()[-1][:100] if output else ""
        words = f"{check.command[0]} exited with {status}"
        return Outcome(False, f"{words}: {last}" if last else words)

    def _driver(self, instance: Instance) -> Outcome:
        status = self._context.local.status(instance.id)
        return Outcome(status.driver_health, status.detail or "its driver calls it sick")


def _literal(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _os_error(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
