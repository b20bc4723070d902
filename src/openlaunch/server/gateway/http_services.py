"""What the connections of an HTTP server share, and which exchange a request gets."""

import asyncio
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from functools import partial

from openlaunch.errors import APIError, Forbidden, NotAcceptable
from openlaunch.server.accept import EVENTS, check_accept
from openlaunch.server.access.auth import Principal
from openlaunch.server.access.sessions import Headers
from openlaunch.server.asgi import App, Scope, header
from openlaunch.server.bodies import BodyBudget
from openlaunch.server.gateway.asgi_exchange import AsgiExchange
from openlaunch.server.gateway.changed_answers import changed
from openlaunch.server.gateway.connections import Connections
from openlaunch.server.gateway.cors import Cors, is_foreign
from openlaunch.server.gateway.exchange import Exchange, HotHandler
from openlaunch.server.gateway.request_reader import Head
from openlaunch.server.gateway.response import Connection, refusal
from openlaunch.server.gateway.route_table import RouteTable
from openlaunch.server.gateway.unread_answers import UnreadAnswers
from openlaunch.server.metrics.server_counts import ServerCounts
from openlaunch.server.proxies import Proxies
from openlaunch.turns import LoopTurns
from openlaunch.wire import routes
from openlaunch_worker.files import ACCEPT_PARTS

_STREAMS = routes.STREAMING_TASKS.encode()
_BY_NAME = f"{routes.BY_NAME}/".encode()
_FIT_ALL = frozenset((None, b"*/*", b"application/json", ACCEPT_PARTS.encode()))
"""Accept headers that fit every hot route."""


@dataclass(frozen=True, slots=True)
class HttpServices:
    """What connections need to serve requests."""

    routes: RouteTable
    app: App
    proxies: Proxies
    cors: Cors | None
    """Which pages of other origins may call; None: no page may."""
    endpoint_origins: Callable[[Head], frozenset[str]]
    """Finds the origins of which pages may send a request by name, beside those."""
    admit: Callable[[Scope], Principal]
    """Finds the caller of a request; raises where its key is not good."""
    admit_scraper: Callable[[bytes | None, Headers], Principal]
    """Finds who has sent a request by its Authorization header, or all headers; raises where he may not scrape."""
    connections: Connections
    bodies: BodyBudget
    unread: BodyBudget
    """Room for what belongs to no request yet, whose owner is therefore not known."""
    unsent: BodyBudget
    """Room for what connections hold of answers whose clients do not read as fast as they are written."""
    answers: UnreadAnswers
    max_body_bytes: int
    read_seconds: float
    write_seconds: float
    counts: ServerCounts = field(default_factory=ServerCounts)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """The requests of the ASGI application that are under way."""
    turns: LoopTurns = field(default_factory=LoopTurns)
    """For their steps: nobody's predictions wait for hundreds of them."""

    def may_exceed(self, head: Head) -> bool:
        """Return whether a request may come over a connection past the limit: an admin's, or a scrape's."""
        try:
            self.admit_scraper(header({"headers": head.headers}, b"authorization"), head.headers)
            return True
        except APIError:
            return False

    def owner_of(self, head: Head) -> str | None:
        """Return whose request this is; None where its key is not good."""
        try:
            return self.admit({"headers": head.headers, "query_string": head.query}).owner
        except APIError:
            return None

    def new_exchange(self, connection: Connection, head: Head) -> Exchange | AsgiExchange:
        """Make the exchange of a request, which its handler or the application will answer."""
        if self.cors is not None or head.origin is not None:
            return self._new_rare_exchange(connection, head)
        routes, named = self.routes, (head.method, head.path)
        handler = routes.exact.get(named)
        if handler is None:
            if (room := routes.room_of.get(named)) is not None:
                return room.exchange(connection, room.handle, head, self.max_body_bytes)
            handler = routes.below(head.method, head.path)
        if handler is not None and head.accept in _FIT_ALL:
            return Exchange(connection, handler, head, self.max_body_bytes)
        return self._new_rare_exchange(connection, head)

    def _new_rare_exchange(self, connection: Connection, head: Head) -> Exchange | AsgiExchange:
        if (prefix := self.proxies.prefix) and head.path.startswith(prefix + b"/"):
            head = copy(head)
            head.path = head.path.removeprefix(prefix)
        cors = self.cors
        if head.path.startswith(_BY_NAME) and (origins := self.endpoint_origins(head)):
            cors = Cors(",".join(origins), beside=cors)
        headers = [] if cors is None else cors.headers(head)
        if is_foreign(head, cors):
            refuse = partial(_refuse, _foreign(head))
            return Exchange(changed(connection, headers), refuse, head, self.max_body_bytes)
        only_head, routes = head.method == b"HEAD", self.routes
        method = b"GET" if only_head else head.method
        handler = routes.exact.get((method, head.path)) or routes.below(method, head.path)
        if handler is not None:
            changed_one = changed(connection, headers, only_head=only_head)
            return Exchange(changed_one, _if_acceptable(head, handler), head, self.max_body_bytes)
        for room in routes.rooms:
            if room.takes(method, head.path):
                changed_one = changed(connection, headers, only_head=only_head)
                return room.exchange(changed_one, room.handle, head, self.max_body_bytes)
        exchange = AsgiExchange(connection, head, routes.methods(head.path), self.proxies, headers)
        task = asyncio.get_running_loop().create_task(exchange.run(self.app, self.turns))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return exchange

    def lose(self, exchange: Exchange | AsgiExchange) -> None:
        """Tell a request that its client is gone."""
        exchange.gone()

    def refuse(
        self, client: tuple[str, int] | None, exchange: Exchange | AsgiExchange | None, error: APIError
    ) -> bytes:
        """Return the whole answer to what can't be read: to a request, or to bytes that are not a request yet."""
        self.counts.refused(error)
        return refusal(error)


def _if_acceptable(head: Head, handler: HotHandler) -> HotHandler:
    """Return the handler, or one that refuses a request whose client does not read what the route answers."""
    try:
        check_accept((head.accept or b"").decode("latin-1"), (EVENTS,) if head.path == _STREAMS else ())
    except NotAcceptable as error:
        return partial(_refuse, error)
    return handler


def _foreign(head: Head) -> Forbidden:
    origin = (head.origin or b"")[:200].decode("latin-1")
    return Forbidden(
        f"a page of {origin!r} has sent this with a key by HTTP Basic, which a browser adds to what any page sends: "
        "send the key as a Bearer token, or have an admin list the origin in OPENLAUNCH_CORS_ORIGINS",
        code="foreign_origin",
    )


def _refuse(error: APIError, exchange: Exchange) -> None:
    raise error
