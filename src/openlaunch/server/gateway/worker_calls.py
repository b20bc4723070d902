"""Connections that clients have not opened: those over which workers call endpoints, and those of other servers.

What workers send is HTTP, as from a client that has a key of the worker's owner.
"""

import asyncio
from copy import copy

from openlaunch.errors import Conflict
from openlaunch.server.access.auth import Keyring
from openlaunch.server.dispatch.member import Member
from openlaunch.server.dispatch.nesting import PARENT
from openlaunch.server.dispatch.work import Work
from openlaunch.server.gateway.asgi_exchange import AsgiExchange
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.http_services import HttpServices
from openlaunch.server.gateway.protocol import HttpProtocol
from openlaunch.server.gateway.request_reader import Head
from openlaunch_worker.calling import PARENT as PARENT_HEADER
from openlaunch_worker.frames import Kind, encode

MAX_CONNECTIONS = 256
"""Limit on the connections of one worker."""

_PARENT = PARENT_HEADER.encode()
_NOT_TAKEN = frozenset((b"authorization", b"x-api-key", b"cookie", _PARENT))
_TAKEN = encode(Kind.START, 0)


class WorkerCalls:
    """Opens such connections, for as long as the worker lives."""

    def __init__(self, services: HttpServices, keyring: Keyring) -> None:
        self._services = services
        self._keyring = keyring

    def open(self, member: Member, transport: asyncio.Transport) -> asyncio.Protocol | None:
        """Make a connection, which has said HELLO, one for calls; None where the worker has too many."""
        if len(member.calls) >= MAX_CONNECTIONS:
            return None
        owner = member.owner
        connection = WorkerConnection(self._services, member, self._keyring.lend(member.token, owner))
        transport.write(_TAKEN)
        connection.connection_made(transport)
        transport.set_protocol(connection)
        member.calls.add(connection)
        return connection

    def serve(self, client: str, transport: asyncio.Transport) -> asyncio.Protocol:
        """Answer what a client with this address has asked another server, which has passed it on."""
        connection = HttpProtocol(self._services)
        connection.connection_made(transport)
        connection.client = (client, 0) if client else None
        return connection

    def end(self, member: Member) -> None:
        """Close the connections of a worker that has ended, whose key is not good any longer."""
        self._keyring.take_back(member.token)
        for connection in list(member.calls):
            connection.close_now()


class WorkerConnection(HttpProtocol):
    """One connection of a worker. What it says of the caller is replaced by what the server knows of the worker."""

    def __init__(self, services: HttpServices, member: Member, key: str) -> None:
        super().__init__(services)
        self._member = member
        self._authorization = b"Bearer " + key.encode()

    def connection_lost(self, exc: Exception | None) -> None:
        self._member.calls.discard(self)
        super().connection_lost(exc)

    def _new_exchange(self, head: Head) -> Exchange | AsgiExchange:
        named = next((value for name, value in head.headers if name == _PARENT), b"")
        link = self._member.link
        parent = None if link is None or not named.isdigit() else link.running.get(int(named))
        if named and (parent is None or parent.cancelled):
            raise Conflict("the request that makes this call has ended", code="parent_ended")
        headers = [each for each in head.headers if each[0] not in _NOT_TAKEN]
        headers.append((b"authorization", self._authorization))
        if parent is not None and (trace := _trace_of(parent, head)) is not None:
            headers.append((b"traceparent", trace.encode()))
        head = copy(head)
        head.headers = headers
        exchange = super()._new_exchange(head)
        if parent is not None:
            exchange.scope[PARENT] = parent
        return exchange


def _trace_of(parent: Work, head: Head) -> str | None:
    """Return the trace of a request that makes a call, unless the call says it."""
    known = any(name == b"traceparent" for name, _ in head.headers)
    return None if known else parent.about().headers.get("traceparent")
