"""Bytes to and from one server: the only part of the lean transport that differs between the two clients."""

import asyncio
import os
import select
import socket
import ssl
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from openlaunch.client.transport import CONNECT_SECONDS, MAX_CONNECTIONS, tls_context

RECEIVE_BYTES = 16 * 1024
MAX_RECEIVE_BYTES = 1024 * 1024
MAX_UNREAD_BYTES = 256 * 1024
MAX_SEND_BYTES = 1024 * 1024
_LOSS = {
    "TCP_KEEPIDLE": 1,
    "TCP_KEEPALIVE": 1,
    "TCP_KEEPINTVL": 1,
    "TCP_KEEPCNT": 2,
    "TCP_USER_TIMEOUT": 2500,
}
"""When a silent machine is asked, in seconds, how often, and for how long what was sent may have no answer, in ms.

Linux has another name than macOS for the first, and the last alone.
"""


class Socket(Protocol):
    """One connection; used by one request at a time."""

    async def send(self, data: bytes, seconds: float) -> None:
        """Send all of it. A connection that breaks meanwhile shows in `receive`, after what came before.

        Raises TimeoutError when nothing of it could be sent for that long.
        """

    async def receive(self, seconds: float) -> bytes:
        """Give what has come, at least one byte; nothing when the peer has closed the connection.

        Raises:
            TimeoutError: nothing came for that long.
            OSError: the connection broke.
        """

    def quiet(self) -> bool:
        """Return whether the connection is open and nothing has come that was not asked for."""

    def close(self) -> None:
        """Close it; harmless when called twice."""

    def forget(self) -> None:
        """Close this process's copy of a connection that is its parent's, which notices nothing."""


class Network(Protocol):
    """Opens connections to one server, a bounded number at a time."""

    async def take_slot(self) -> None:
        """Wait for a free slot: each connection in use has one.

        Raises TimeoutError when all stay in use for too long.
        """

    def free_slot(self) -> None:
        """Give a slot back."""

    async def connect(self) -> Socket:
        """Open a connection. Raises OSError when the server can't be reached, or not in time."""

    def forget(self) -> None:
        """Begin anew, with no connection in use."""


class Remote:
    """The server's host and port, and how it proves who it is."""

    def __init__(self, url: str, ca_file: Path | None, connect_seconds: float = CONNECT_SECONDS) -> None:
        parts = urlsplit(url)
        self.connect_seconds = connect_seconds
        self.moves_on = connect_seconds < CONNECT_SECONDS
        """Whether there is another server, so that the loss of a connection is to be noticed soon."""
        assert parts.hostname is not None
        secure = parts.scheme == "https"
        self.host, self.port = parts.hostname, parts.port or (443 if secure else 80)
        self._tls: ssl.SSLContext | None = None
        self._ca_file = ca_file
        self._secure = secure

    def tls(self) -> ssl.SSLContext | None:
        """Give the context for HTTPS, made when it is first needed; None for HTTP."""
        if self._secure and self._tls is None:
            self._tls = tls_context(self._ca_file)
        return self._tls


class BlockingSocket:
    """A socket of the standard library."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._size = RECEIVE_BYTES

    async def send(self, data: bytes, seconds: float) -> None:
        if self._sock.gettimeout() != seconds:
            self._sock.settimeout(seconds)
        try:
            sent = self._sock.send(data)
            # Not sendall: its timeout is for all of the data, however steadily they flow.
            while sent < len(data):
                sent += self._sock.send(memoryview(data)[sent:])
        except (BrokenPipeError, ConnectionResetError):
            return  # a server may refuse a request before it has read all of it

    async def receive(self, seconds: float) -> bytes:
        if self._sock.gettimeout() != seconds:
            self._sock.settimeout(seconds)
        data = self._sock.recv(self._size)
        # A small answer is not worth the memory of the larger pieces in which a large one is read.
        self._size = MAX_RECEIVE_BYTES if len(data) == self._size else RECEIVE_BYTES
        return data

    def quiet(self) -> bool:
        return not _readable(self._sock.fileno())

    def close(self) -> None:
        self._sock.close()

    def forget(self) -> None:
        self._sock.close()


class BlockingNetwork:
    """Connections whose methods block; any number of threads may share it."""

    def __init__(self, remote: Remote, limit: int = MAX_CONNECTIONS) -> None:
        self._remote = remote
        self._limit = limit
        self.forget()

    def forget(self) -> None:
        self._slots = threading.BoundedSemaphore(self._limit)

    async def take_slot(self) -> None:
        if not self._slots.acquire(timeout=CONNECT_SECONDS):
            raise TimeoutError("all connections of this client are in use")

    def free_slot(self) -> None:
        self._slots.release()

    async def connect(self) -> BlockingSocket:
        tls = self._remote.tls()
        sock = socket.create_connection((self._remote.host, self._remote.port), self._remote.connect_seconds)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._remote.moves_on:
                _notice_loss(sock)
            return BlockingSocket(tls.wrap_socket(sock, server_hostname=self._remote.host) if tls else sock)
        except BaseException:
            sock.close()
            raise


class AwaitableSocket(asyncio.Protocol):
    """A connection of an event loop. asyncio's own streams can't tell whether unread bytes are there."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received: deque[bytes] = deque()
        self._unread = 0
        self._full = False
        self._closed = self._lost = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        self._unread += len(data)
        if self._unread > MAX_UNREAD_BYTES:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._closed = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed, self._lost, self._error = True, True, exc
        self._wake()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()

    async def send(self, data: bytes, seconds: float) -> None:
        # In pieces, because asyncio copies what it can't send at once.
        for at in range(0, len(data), MAX_SEND_BYTES):
            if not self._closed:
                self._transport.write(data if len(data) <= MAX_SEND_BYTES else data[at : at + MAX_SEND_BYTES])
            while self._full and not self._closed:
                await self._some_sent(seconds)

    async def _some_sent(self, seconds: float) -> None:
        unsent = self._transport.get_write_buffer_size()
        try:
            await self._woken(seconds)
        except TimeoutError:
            if self._transport.get_write_buffer_size() >= unsent:
                raise

    async def receive(self, seconds: float) -> bytes:
        while not self._received and not self._closed:
            await self._woken(seconds)
        if self._received:
            return self._next()
        if self._error is not None:
            raise self._error
        return b""

    def _next(self) -> bytes:
        data = self._received.popleft()
        if self._unread > MAX_UNREAD_BYTES >= self._unread - len(data):
            self._transport.resume_reading()
        self._unread -= len(data)
        return data

    async def _woken(self, seconds: float) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "this answer comes to another event loop, in which it was asked for: read a stream to its end in the "
                "asyncio.run that called predict"
            )
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(seconds, _time_out, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def quiet(self) -> bool:
        # What has come while the loop did not run is not known to it yet, so the socket is asked too.
        fd = self._transport.get_extra_info("socket").fileno()
        return not (self._received or self._closed or self._transport.is_closing() or _readable(fd))

    def close(self) -> None:
        # asyncio's transport can't be aborted once it has closed itself: the server sent its end before it took all.
        if not self._lost:
            self._transport.abort()

    def forget(self) -> None:
        # The loop's poller is shared with the parent, so the loop must not hear of it: only the descriptor changes.
        with suppress(OSError), Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), self._transport.get_extra_info("socket").fileno(), inheritable=False)


def _notice_loss(sock: socket.socket) -> None:
    """Have the system break a connection whose other machine has not answered for some seconds, as without its cable.

    The other machine itself answers, however long a request takes there.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _LOSS.items():
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _time_out(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


class AwaitableNetwork:
    """Connections of one event loop."""

    def __init__(self, remote: Remote, limit: int = MAX_CONNECTIONS) -> None:
        self._remote = remote
        self._limit = limit
        self.forget()

    def forget(self) -> None:
        self._slots = asyncio.Semaphore(self._limit)

    async def take_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise TimeoutError("all connections of this client are in use") from None

    def free_slot(self) -> None:
        self._slots.release()

    async def connect(self) -> AwaitableSocket:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._remote.connect_seconds):
            # TCP_NODELAY is asyncio's own default.
            transport, connected = await loop.create_connection(
                AwaitableSocket, self._remote.host, self._remote.port, ssl=self._remote.tls()
            )
        if self._remote.moves_on:
            _notice_loss(transport.get_extra_info("socket"))
        return connected
