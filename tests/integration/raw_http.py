"""HTTP/1.1 as bytes on a connection, with which clients other than ours are played."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Wire:
    """A connection on which requests are written as bytes."""

    def __init__(self, client, sock, file):
        self._client = client
        self.sock = sock
        self._file = file

    def request(self, name, args, *, version="1.1", headers=(), body=None, key=None, base=""):
        """The bytes of a prediction."""
        endpoint = self._client.get_model_endpoint(name).model_endpoint
        body = json.dumps({"args": args}).encode() if body is None else body
        lines = [
            f"POST {base}/v1/{endpoint.endpoint_type.value}-tasks?model_endpoint_id={endpoint.id} HTTP/{version}",
            "Host: x",
            f"Authorization: Bearer {key or self._client.server.api_key}",
            f"Content-Length: {len(body)}",
            *headers,
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def result_of(self, task_id, *, base=""):
        """The bytes of a request that waits for a task."""
        path = f"{base}/v1/async-tasks/{task_id}?wait=30"
        authorization = f"Authorization: Bearer {self._client.server.api_key}"
        return f"GET {path} HTTP/1.1\r\nHost: x\r\n{authorization}\r\n\r\n".encode()

    def head(self):
        """The next status, and the headers."""
        status = self._file.readline()
        headers = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        return int(status.split()[1]), headers

    def answer(self):
        """The next status and JSON body."""
        status, headers = self.head()
        return status, json.loads(self._file.read(int(headers["content-length"])))

    def value(self):
        """The next answer's value."""
        status, body = self.answer()
        assert status == 200, body
        return json.loads(body["result"]["result"])

    def rest(self):
        """Everything until the connection is closed."""
        return self._file.read()


@contextmanager
def connected(client) -> Iterator[Wire]:
    """A connection to the server of a client."""
    host, port = client.server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as sock, sock.makefile("rb") as file:
        yield Wire(client, sock, file)
        with suppress(OSError):  # closed already
            sock.shutdown(socket.SHUT_RDWR)
