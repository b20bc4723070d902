"""The end of a connection on which the client may be sending a request just now."""

import asyncio

from openlaunch.errors import Unavailable
from openlaunch.server.gateway.response import refusal

LINGER_SECONDS = 0.2
"""How long what comes is still read: the kernel resets a connection that is closed with bytes that were not read."""


class Farewell(asyncio.Protocol):
    """Takes a connection over that waits for a request: says that none will be served, and closes it soon.

    A request that crosses this on its way has its answer, by which the client knows that nothing was run. Where none
    does, the client finds the connection closed before it sends one.
    """

    def __init__(self, connection: asyncio.Protocol) -> None:
        self._connection = connection

    def say(self, transport: asyncio.Transport) -> None:
        """Take over, answer, and close the connection when the client has, or after `LINGER_SECONDS`."""
        transport.set_protocol(self)
        error = Unavailable("the server is stopping", code="stopping", retry_after=2)
        transport.write(refusal(error))
        if transport.can_write_eof():
            transport.write_eof()
            transport.resume_reading()
            asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)
        else:  # TLS has no end of one side
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Drop what comes."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the connection that it has ended."""
        self._connection.connection_lost(exc)
