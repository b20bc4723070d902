"""A request to a bundle's own server is sent once, whatever becomes of a connection that was kept."""

import asyncio
import socket
import threading

import pytest

from openlaunch_worker.failures import Refusal, Unserved
from openlaunch_worker.forwarder import Forwarder

FLAVOR = {"predict_route": "/predict"}
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


async def closed(forwarder):
    """Close the connections that are kept, which a worker does by its end."""
    for connection in forwarder._upstream._free:
        connection.close()
    await asyncio.sleep(0)


@pytest.fixture
def play():
    servers, forwarders = [], []
    with asyncio.Runner() as runner:

        def played(*connections):
            server = Server(*connections)
            servers.append(server)
            forwarders.append(Forwarder("the server", server.port, 1000))
            predict = forwarders[-1].predict(FLAVOR, streaming=False)
            return server, lambda: runner.run(predict())

        yield played
        for forwarder in forwarders:
            runner.run(closed(forwarder))
    for server in servers:
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


def test_a_server_that_does_not_listen_has_not_had_the_request():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    predict = Forwarder("the server", port, 1000).predict(FLAVOR, streaming=False)
    with pytest.raises(Unserved, match="nothing listens on the port of the server any longer"):
        asyncio.run(predict())


def test_a_prediction_that_is_cancelled_closes_its_connection():
    async def main():
        accepted = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda *both: accepted.set_result(both), "127.0.0.1")
        async with server:
            port = server.sockets[0].getsockname()[1]
            task = asyncio.create_task(Forwarder("the server", port, 1000).predict(FLAVOR, streaming=False)())
            reader, writer = await asyncio.wait_for(accepted, 10)
            await asyncio.wait_for(reader.readuntil(b"{}"), 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.wait_for(reader.read(), 10) == b""  # the end of the connection
            writer.close()
            await writer.wait_closed()

    asyncio.run(main())


def test_an_answer_that_nobody_reads_slows_its_server_down():
    """No more of a stream is read than a piece and what buffers hold."""
    sent, over = 0, asyncio.Event()

    async def flood(reader, writer):
        nonlocal sent
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/jsonl\r\nconnection: close\r\n\r\n")
        try:
            while True:
                writer.write(b"1\n" * 50_000)
                await writer.drain()
                sent += 100_000
        except ConnectionError:
            writer.close()
            over.set()

    async def main():
        async with await asyncio.start_server(flood, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            streaming = {"streaming_predict_route": "/predict"}
            items = Forwarder("the server", port, 1000).predict(streaming, streaming=True)()
            assert await anext(items) == 1
            known = -1
            while known != sent:  # until the server waits
                known = sent
                await asyncio.sleep(0.2)
            assert sent < 50_000_000
            await items.aclose()
            await asyncio.wait_for(over.wait(), 10)

    asyncio.run(main())
