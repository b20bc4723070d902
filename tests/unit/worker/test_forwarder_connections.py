"""A request to a bundle's own server is sent once, whatever becomes of a connection that was kept."""

import socket
import threading

import pytest

from openlaunch_worker.failures import Refusal
from openlaunch_worker.forwarder import Forwarder

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1"


class Server:
    """Answers the requests of one connection after the other by `answers`; an empty one closes the connection."""

    def __init__(self, *connections):
        self.requests = 0
        self.closed = threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(connections,))
        self._thread.start()

    def _serve(self, connections):
        for answers in connections:
            connection, _ = self._listener.accept()
            with connection:
                for answer in answers:
                    if not self._one(connection, answer):
                        break
            self.closed.release()

    def _one(self, connection, answer):
        received = b""
        while not received.endswith(b"{}"):
            received += connection.recv(65536)
        self.requests += 1
        connection.sendall(answer)
        return answer

    def close(self):
        self._thread.join()
        self._listener.close()


@pytest.fixture
def play():
    servers = []

    def played(*connections):
        server = Server(*connections)
        forwarder = Forwarder("the server", server.port, 1000)
        servers.append((server, forwarder))
        return server, forwarder.predict({"predict_route": "/predict"}, streaming=False)

    yield played
    for server, forwarder in servers:
        forwarder._drop()
        server.close()


def test_a_request_is_not_sent_again_when_a_kept_connection_closes_after_it(play):
    server, predict = play([OK, b""])
    assert predict() == 1
    with pytest.raises(Refusal, match="may have run"):
        predict()
    assert server.requests == 2


def test_a_kept_connection_that_has_closed_is_replaced(play):
    server, predict = play([OK], [OK])
    assert predict() == 1
    assert server.closed.acquire(timeout=10)
    assert predict() == 1
    assert server.requests == 2
