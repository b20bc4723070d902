"""Several servers of one cluster, each of which can answer everything."""

from collections.abc import Sequence

from openlaunch.client.effects import Request, Response
from openlaunch.client.retry import NOTHING_RAN, TransportFailure
from openlaunch.client.transport import Transport
from openlaunch.wire import problems

AWAY = 503
"""The status of a server that can't serve now, such as one that is stopping or has no workers: another one may."""


class SeveralServers:
    """Sends requests to one of several servers, and moves on to the next when it is away.

    A request that a server may have begun with is not sent to another one here: whether it may be sent again is
    decided by the rules of retries, and then it goes to the next server.
    """

    def __init__(self, transports: Sequence[Transport]) -> None:
        self._transports = transports
        self._at = 0

    async def send(self, request: Request) -> Response:
        reasons: list[str] = []
        cause: TransportFailure | None = None
        refused: Response | None = None
        for _ in self._transports:
            at = self._at
            try:
                response = await self._transports[at].send(request)
            except TransportFailure as failure:
                self._leave(at)
                if failure.sent:
                    raise
                reasons.append(str(failure))
                cause = failure
            else:
                if response.status != AWAY:
                    return response
                self._leave(at)
                refused = response
                if not request.idempotent and _code(response) not in NOTHING_RAN:
                    return response
        if refused is not None:
            return refused
        raise TransportFailure("; ".join(reasons), sent=False) from cause

    def _leave(self, at: int) -> None:
        """Begin with the next server from now on, unless another request has already moved on."""
        if self._at == at:
            self._at = (at + 1) % len(self._transports)

    async def close(self) -> None:
        for transport in self._transports:
            await transport.close()


def _code(response: Response) -> str:
    """Return the word by which a server says why it refuses."""
    return problems.from_response(response.status, response.headers, response.body).code
