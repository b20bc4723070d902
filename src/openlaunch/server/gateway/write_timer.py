"""Watches that a client reads what it is sent."""

import asyncio


class WriteTimer:
    """Closes a connection whose client has read nothing for a time, while there is as much to read as it may hold."""

    __slots__ = ("_handle", "_loop", "_seconds", "_unread")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._unread = 0
        self._handle: asyncio.TimerHandle | None = None

    def start(self, transport: asyncio.Transport) -> None:
        """Begin to watch: the connection holds what it may."""
        self.cancel()
        self._unread = transport.get_write_buffer_size()
        self._handle = self._loop.call_later(self._seconds, self._look, transport)

    def cancel(self) -> None:
        """Watch no longer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self, transport: asyncio.Transport) -> None:
        if transport.get_write_buffer_size() < self._unread:
            self.start(transport)
        else:
            transport.abort()
