"""The end of a connection on which the client may be sending just now."""

import asyncio

CROSSING_SECONDS = 0.2
"""How long a stopping server waits for what crosses the end of a connection on its way."""

IDLE_SECONDS = 2.0
LINGER_SECONDS = 30.0
LINGER_BYTES = 256 * 1024 * 1024
UNREADABLE_BYTES = 1024 * 1024
"""How long a client may send nothing, and send at all, and how much; less where it does not speak HTTP."""


class Farewell(asyncio.Protocol):
    """Takes a connection over: sends a last answer, drops what comes, and closes the connection soon.

    The kernel resets a connection that is closed with bytes that were not read, and the client may then lose the
    answer, or find only an error where it sends. A client that reads the answer closes the connection itself.
    """

    def __init__(
        self,
        connection: asyncio.Protocol,
        idle: float = IDLE_SECONDS,
        seconds: float = LINGER_SECONDS,
        size: int = LINGER_BYTES,
    ) -> None:
        self._connection = connection
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + seconds
        self._left = self._seen = size

    def say(self, transport: asyncio.Transport, answer: bytes = b"") -> None:
        """Take over, and send the answer."""
        self._transport = transport
        transport.set_protocol(self)
        if answer:
            transport.write(answer)
        if transport.can_write_eof():  # TLS has no end of one side
            transport.write_eof()
        transport.resume_reading()
        self._timer = self._loop.call_later(self._idle, self._look)

    def _look(self) -> None:
        is_quiet = self._seen == self._left and not self._transport.get_write_buffer_size()
        if is_quiet or self._loop.time() >= self._ends:
            end = self._transport.close if is_quiet else self._transport.abort
            end()
        else:
            self._seen = self._left
            self._timer = self._loop.call_later(self._idle, self._look)

    def data_received(self, data: bytes) -> None:
        """Drop what comes."""
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()

    def pause_writing(self) -> None:
        """Have the connection watch that its client reads."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Tell the connection that its client has read."""
        self._connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the connection that it has ended."""
        self._timer.cancel()
        self._connection.connection_lost(exc)
