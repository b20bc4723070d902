"""Several servers that share their records: any takes tasks and answers for them, and one of them has the workers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from openlaunch.client.effects import Body, Request, Response
from openlaunch.client.retry import TransportFailure
from openlaunch.client.transport import Transport
from openlaunch.wire import problems

AWAY = 503
ELSEWHERE = frozenset({"stopping", "not_leading"})
"""Codes of a 503 by which a server refuses, before it begins, what another one would take.

Other refusals are passed on: a model that can't be loaded can't be at the next server either.
"""


class SeveralServers:
    """Sends requests to one of several servers, and moves on to the next when it is away.

    A request that a server may have begun with is not sent to another one here: whether it may be sent again is
    decided by the rules of retries, and then it goes to the next server.
    """

    def __init__(self, transports: Sequence[Transport]) -> None:
        self._transports = transports
        self._at = 0

    async def send(self, request: Request) -> Response:
        first, count = self._at, len(self._transports)
        failures: list[TransportFailure] = []
        refused: Response | None = None
        for at in ((first + step) % count for step in range(count)):
            try:
                response = await self._transports[at].send(request)
            except TransportFailure as failure:
                self._leave(at)
                if failure.sent:
                    raise
                failures.append(failure)
                continue
            if not _is_elsewhere(response):
                if response.stream is not None:
                    response = replace(response, stream=_Left(response.stream, partial(self._leave, at)))
                return response
            self._leave(at)
            refused = response
        if refused is not None:
            return refused
        raise TransportFailure("; ".join(map(str, failures)), sent=False) from failures[-1]

    def _leave(self, at: int) -> None:
        """Begin with the next server from now on, unless another request has already moved on."""
        if self._at == at:
            self._at = (at + 1) % len(self._transports)

    async def close(self) -> None:
        for transport in self._transports:
            await transport.close()


class _Left:
    """The body of an answer that comes piece by piece. Where it breaks, its server is left."""

    def __init__(self, body: Body, leave: Callable[[], None]) -> None:
        self._body, self._leave = body, leave
        self.close = body.close

    async def read(self) -> bytes:
        try:
            return await self._body.read()
        except TransportFailure:
            self._leave()
            raise


def _is_elsewhere(response: Response) -> bool:
    """Return whether a server refuses what another one would take."""
    if response.status != AWAY:
        return False
    return problems.from_response(response.status, response.headers, response.body).code in ELSEWHERE
