"""A TCP proxy on this machine that breaks connections when it is told to."""

import contextlib
import fcntl
import socket
import struct
import termios
import threading
import time
from array import array
from collections.abc import Iterator

_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Passes bytes on to the server at a URL.

    `cut_after` is how many bytes of answers a connection carries before it is cut; None: all. `reset` says how:
    by a reset, or in good order, as a load balancer does that shuts down. `passed` counts bytes, both ways.
    """

    def __init__(self, url: str) -> None:
        self.cut_after: int | None = None
        self.reset = True
        self.delay = 0.0
        """How many seconds late each message is passed on."""
        self._flows = threading.Event()
        self._flows.set()
        self.connections = 0
        self.passed = 0
        self.lead_to(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def lead_to(self, url: str) -> None:
        """Where connections lead to from now on."""
        host, port = url.removeprefix("http://").split(":")
        self._target = (host, int(port))

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            self.connections += 1
            with self._lock:
                self._open |= {client, server}
            for source, sink, limit in ((client, server, None), (server, client, self.cut_after)):
                thread = threading.Thread(target=self._pump, args=(source, sink, limit))
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        left = float("inf") if limit is None else limit
        with contextlib.suppress(OSError):
            while left > 0 and (data := source.recv(int(min(left, 65536)))):
                self._flows.wait()
                if self.delay:
                    time.sleep(self.delay)
                sink.sendall(data)
                left -= len(data)
                self.passed += len(data)
        if limit is not None:
            self._arrived(sink)
        self._cut(source, sink)

    def _arrived(self, sink: socket.socket) -> None:
        """Wait until the other side has what was sent: a reset would throw it away."""
        unsent = array("i", [1])
        with contextlib.suppress(OSError, ValueError):  # it is closed already
            while unsent[0]:
                fcntl.ioctl(sink, termios.TIOCOUTQ, unsent)
                time.sleep(0.0005)

    def _cut(self, *sockets: socket.socket) -> None:
        with self._lock:
            self._open -= set(sockets)
        for sock in sockets:
            with contextlib.suppress(OSError):
                if self.reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                else:
                    sock.shutdown(socket.SHUT_WR)
                # Wakes the thread that reads from it, which a close alone does not.
                sock.shutdown(socket.SHUT_RD)
            sock.close()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Pass nothing on for a while, and say so to nobody: a cable that is pulled out, and put back."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def cut(self) -> None:
        """Cut every connection that there is now."""
        with self._lock:
            now = tuple(self._open)
        self._cut(*now)

    def close(self) -> None:
        """Cut everything, and take no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in list(self._threads):
            thread.join(10)


@contextlib.contextmanager
def proxy_to(url: str) -> Iterator[Proxy]:
    """A proxy to a server's URL."""
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
