"""Answers of hot routes that differ from the usual ones: with further headers, or without their body."""

from typing import Any, cast

from openlaunch.server.gateway.response import Connection
from openlaunch_worker.frames import Body


class ChangedAnswer:
    """The connection of one request, whose answer gets headers, or consists of its head alone.

    So other requests, which are nearly all, pay nothing for what these few need.
    """

    def __init__(
        self, connection: Connection, headers: list[tuple[bytes, bytes]], *, only_head: bool
    ) -> None:
        self._connection = connection
        self._headers = b"".join(b"\r\n%b: %b" % header for header in headers)
        self._only_head = only_head
        self._begun = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def send(self, data: Body | memoryview) -> None:
        """Send a part of the answer, of which the first one begins with its head."""
        if not self._begun and data[:10] != b"HTTP/1.1 1":  # that is an interim answer
            self._begun = True
            head, _, body = bytes(data).partition(b"\r\n\r\n")
            data = head + self._headers + b"\r\n\r\n" + (b"" if self._only_head else body)
        elif self._begun and self._only_head:
            return
        self._connection.send(data)


def changed(
    connection: Connection, headers: list[tuple[bytes, bytes]], *, only_head: bool = False
) -> Connection:
    """Return the connection for a request whose answer is to be changed so; the same one where nothing changes."""
    if not headers and not only_head:
        return connection
    return cast("Connection", ChangedAnswer(connection, headers, only_head=only_head))
