"""What ``constellation verify`` looks at."""

from __future__ import annotations

import asyncio
from typing import get_args

from constellation_core import VerifyCheck, VerifyResult
from constellation_plugin_traefik.api_client import TraefikAPI
from constellation_plugin_traefik.problems import Kind
from constellation_plugin_traefik.provider import HeldBackError, Provider

_POLL_AGAIN = 1.0
_ATTEMPTS = 6


def document_check(provider: Provider) -> VerifyCheck:
    """Whether the document can be given, with all routes in it."""

    async def run() -> VerifyResult:
        try:
            provider.document()
        except HeldBackError as error:
            return VerifyResult(
                "warn", f"held back: {error}", "wait a moment; see `constellation members`"
            )
        problems = provider.problems()
        words = "; ".join(str(each) for each in problems)
        if any(each.level == "error" for each in problems):
            return VerifyResult("fail", words, "mend these routes in the services file")
        if problems:
            return VerifyResult("warn", words, "look at these routes in the services file")
        count = sum(len(provider.router_names(kind)) for kind in get_args(Kind))
        return VerifyResult("ok", f"{count} routers" if count else "no service has a route")

    return VerifyCheck("traefik.document", run)


def traefik_check(provider: Provider) -> VerifyCheck:
    """Whether Traefik has taken all routers of the document."""

    async def run() -> VerifyResult:
        url = provider.config.api_url
        if url is None:
            return VerifyResult("skip", "[plugins.traefik] api_url is not set")
        api = TraefikAPI(url)
        wrong: list[str] = []
        try:
            # Between a change and Traefik's next poll the two may differ.
            for attempt in range(_ATTEMPTS):
                if attempt:
                    await asyncio.sleep(_POLL_AGAIN)
                wrong = await _differences(provider, api)
                if not wrong:
                    return VerifyResult("ok", f"{url} has all routers")
        except OSError as error:
            return VerifyResult(
                "fail", str(error), "is Traefik running, with its API on [plugins.traefik] api_url?"
            )
        return VerifyResult(
            "fail",
            "; ".join(wrong),
            "let Traefik's providers.http.endpoint be this agent's /api/traefik, and see its log",
        )

    return VerifyCheck("traefik.routers", run)


async def _differences(provider: Provider, api: TraefikAPI) -> list[str]:
    wrong = []
    for kind in get_args(Kind):
        names = provider.router_names(kind)
        if not names:
            continue
        taken = await api.objects(kind, "routers")
        missing = [name for name in names if name not in taken]
        if missing:
            wrong.append(f"Traefik has no {kind} router {', '.join(missing)}")
        for name in names:
            state = taken.get(name)
            if state is not None and state.get("status") != "enabled":
                reasons = "; ".join(str(each) for each in state.get("error", ()))
                wrong.append(f"{kind} router {name} is {state.get('status')}: {reasons}")
    return wrong
