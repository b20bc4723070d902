"""Requests that speak OpenAI: errors have the shape that its clients read."""

import json
import math
from collections.abc import Mapping

from openlaunch.errors import APIError
from openlaunch.server.asgi import problem_headers
from openlaunch.server.gateway.exchange import Exchange, HotHandler
from openlaunch.server.gateway.request_reader import Head
from openlaunch.server.gateway.response import JSON, Connection
from openlaunch.wire import routes
from openlaunch.wire.openai_errors import error_document
from openlaunch_worker.frames import Body


class ModelExchange(Exchange):
    """One request of a model, whose answer is the engine's own as it comes."""

    __slots__ = ("limits",)

    def __init__(self, connection: Connection, handler: HotHandler, head: Head, limit: int) -> None:
        super().__init__(connection, handler, head, limit)
        self.limits: Mapping[str, str] = {}
        """Headers that say what is left of the caller's limits."""

    @property
    def route(self) -> str:
        """The path of the request."""
        return str(self.scope["raw_path"], "latin-1")

    @property
    def engine_route(self) -> str:
        """The route of the engine that it is for."""
        return routes.MODEL_ROUTES_V2.get(self.route, self.route)

    def _described(self, error: APIError, request_id: str) -> tuple[dict[str, str], bytes]:
        headers = {**JSON, **problem_headers(error, request_id), **self.limits}
        if error.retry_after is not None:
            headers["retry-after-ms"] = str(max(1, math.ceil(1000 * error.retry_after)))
        return headers, json.dumps(error_document(error, request_id, self.route)).encode()

    def respond_as_is(self, status: int, headers: Mapping[str, str], body: Body) -> None:
        """Answer with what the engine has answered."""
        self._respond(status, {**headers, **self.limits, "x-request-id": self.request_id}, body)

    def write_document(self, data: bytes, headers: Mapping[str, str]) -> None:
        """Send a piece of an answer that is not events, in which nothing may be put."""
        self.write(data, headers)
        self._is_one_document = True

    def collect(self, size: int) -> bool:
        """Count the memory of an answer that is gathered; return False where there is no room, which is answered."""
        return self._count(size)
