"""Speaks with an etcd cluster through the JSON gateway that each member has on its client port.

https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import aiohttp

from constellation_core.consensus import ConsensusError, Unavailable, Unknown
from constellation_plugin_etcd.answers import FAILED_PRECONDITION, Refusal, Unreachable, failure
from constellation_plugin_etcd.exchange import Document, Exchange, Sending, read, read_elements
from constellation_plugin_etcd.login import Login, Tokens

T = TypeVar("T")

STATUS = "/v3/maintenance/status"

_OPEN = 2.0


class Gateway(Protocol):
    """A way to the members."""

    async def call(
        self, path: str, body: Document, *, timeout: float, leader: bool = True
    ) -> Document:
        """Send one request to one member, and give its answer.

        Members that cannot be reached, or that know no leader, are passed over.

        Args:
            path: from ``/v3`` on.
            body: the request.
            timeout: seconds.
            leader: have it refused at once by a member that knows no leader.

        Raises:
            Refusal: a member answered that it does not do it.
            Unavailable: nothing was done.
            Unknown: it may be done, now or later.
        """
        ...

    def stream(
        self, path: str, body: Document, *, silence: float
    ) -> AsyncGenerator[Document, None]:
        """Send one request to one member, and give the elements of its answer.

        Ends when there was none for ``silence`` seconds. To be closed when it is not read to its
        end.

        Raises:
            Unavailable: it could not be opened, or ended.
            Unknown: as ``Unavailable``, by accident of what etcd answered.
        """
        ...


class _Endpoint:
    """A member's client address.

    Attributes:
        url: without a slash at its end.
        checked: it was seen to belong to the cluster since the last failure.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.checked = False


class HttpGateway:
    """The members over HTTP. To be used in one event loop.

    Only one cluster is spoken with: a member that belongs to another one than the first that
    answered is refused before it gets a request, since revisions of different clusters, or of
    one that was put back from a backup, cannot be compared.

    Args:
        endpoints: URLs of members, at least one.
        login: who to be; without it, nobody in particular.
        tls: for ``https``.

    Attributes:
        problems: what is wrong and does not keep it from working, in words.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        login: Login | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.problems: set[str] = set()
        self._endpoints = [_Endpoint(url) for url in endpoints]
        self._first = 0
        self._login = login
        self._tokens = Tokens(self._authenticate)
        self._cluster: str | None = None
        self._exchange = Exchange(tls)

    async def call(
        self, path: str, body: Document, *, timeout: float, leader: bool = True
    ) -> Document:
        """As :meth:`Gateway.call`."""
        sending = Sending()

        async def ask(endpoint: _Endpoint) -> Document:
            # What the member before was sent, it has refused.
            sending.sent = False
            with _failures(endpoint):
                return await read(await self._open(endpoint, path, body, leader, sending))

        try:
            async with asyncio.timeout(timeout):
                return await self._any(ask)
        except TimeoutError:
            if sending.sent:
                raise Unknown("no etcd member answered in time") from None
            raise Unreachable("no etcd member could be reached in time") from None

    async def stream(
        self, path: str, body: Document, *, silence: float
    ) -> AsyncGenerator[Document, None]:
        """As :meth:`Gateway.stream`."""

        async def open_one(endpoint: _Endpoint) -> aiohttp.ClientResponse:
            with _failures(endpoint):
                return await self._open(endpoint, path, body, True, Sending())

        try:
            async with asyncio.timeout(_OPEN):
                response = await self._any(open_one)
        except TimeoutError:
            raise Unavailable("no etcd member answered in time") from None
        try:
            async for document in read_elements(response, silence):
                if not isinstance(document.get("result"), dict):
                    raise failure(document)
                yield document["result"]
        finally:
            response.close()

    async def ask_each(self, path: str, timeout: float) -> Mapping[str, Document | ConsensusError]:
        """What each member answers, or why it does not, by its URL."""

        async def ask(endpoint: _Endpoint) -> Document | ConsensusError:
            try:
                with _failures(endpoint):
                    async with asyncio.timeout(timeout):
                        return await read(await self._open(endpoint, path, {}, False, Sending()))
            except TimeoutError:
                return Unavailable("no answer in time")
            except ConsensusError as error:
                return error

        answers = await asyncio.gather(*(ask(endpoint) for endpoint in self._endpoints))
        return {each.url: got for each, got in zip(self._endpoints, answers, strict=True)}

    async def close(self) -> None:
        """End all connections; nothing can be asked any more."""
        await self._exchange.close()
        await self._tokens.close()

    async def _any(self, ask: Callable[[_Endpoint], Awaitable[T]]) -> T:
        """Ask one member after the other, until one takes the request."""
        first, count = self._first, len(self._endpoints)
        last: ConsensusError | None = None
        for number in range(first, first + count):
            self._first = number % count
            try:
                return await ask(self._endpoints[self._first])
            except Unreachable as error:
                last = error
            except Refusal as error:
                if not error.no_leader:
                    raise
                last = error
            except BaseException:
                # Somebody else next time; this one is slow, or its connection broke.
                self._first = (number + 1) % count
                raise
        raise Unavailable(f"no etcd member takes it: {last}") from last

    async def _open(
        self,
        endpoint: _Endpoint,
        path: str,
        body: Document,
        leader: bool,
        sending: Sending,
    ) -> aiohttp.ClientResponse:
        """The response to a request, of which the status is good and the body not yet read."""
        if not endpoint.checked:
            await self._check(endpoint)
        headers = {"Grpc-Metadata-hasleader": "true"} if leader else {}
        token = await self._token(endpoint)
        try:
            return await self._post(endpoint, path, body, headers, token, sending)
        except Refusal as error:
            if self._login is None or not error.login_needed:
                raise
        self._tokens.forget(token)
        token = await self._token(endpoint)
        return await self._post(endpoint, path, body, headers, token, sending)

    async def _token(self, endpoint: _Endpoint) -> str:
        """Of the login; empty where none is needed."""
        return "" if self._login is None else await self._tokens.get(endpoint)

    async def _post(
        self,
        endpoint: _Endpoint,
        path: str,
        body: Document,
        headers: Mapping[str, str],
        token: str,
        sending: Sending,
    ) -> aiohttp.ClientResponse:
        headers = {**headers, "Authorization": token} if token else headers
        return await self._exchange.post(endpoint.url, path, body, headers, sending)

    async def _check(self, endpoint: _Endpoint) -> None:
        header = (await self._before(endpoint, STATUS, {})).get("header")
        cluster = str(header.get("cluster_id")) if isinstance(header, dict) else ""
        if self._cluster is None:
            self._cluster = cluster
        problem = f"{endpoint.url} belongs to another etcd cluster, or to one that was restored"
        if cluster != self._cluster:
            self.problems.add(problem)
            raise Unreachable(problem)
        self.problems.discard(problem)
        endpoint.checked = True

    async def _authenticate(self, endpoint: _Endpoint) -> str:
        assert self._login is not None
        asked = {"name": self._login.user, "password": self._login.password}
        disabled = "a user is set, but authentication is not enabled in etcd"
        try:
            answer = await self._before(endpoint, "/v3/auth/authenticate", asked)
        except Refusal as error:
            if error.code == FAILED_PRECONDITION:
                self.problems.add(disabled)
                return ""
            raise
        self.problems.discard(disabled)
        return str(answer.get("token", ""))

    async def _before(self, endpoint: _Endpoint, path: str, body: Document) -> Document:
        """Ask what has to be known before the request itself is sent.

        Raises:
            Refusal: the member does not do it.
            Unreachable: whatever else went wrong: nothing of the request itself was sent.
        """
        try:
            return await read(await self._exchange.post(endpoint.url, path, body, {}, Sending()))
        except Unknown as error:
            raise Unreachable(f"{endpoint.url}: {error}") from error


@contextlib.contextmanager
def _failures(endpoint: _Endpoint) -> Iterator[None]:
    """Have a member checked anew after what may be a restart of it, or of its whole cluster."""
    try:
        yield
    except Refusal:
        raise
    except BaseException:
        endpoint.checked = False
        raise
