"""Of several servers, one whose machine has gone silent is left within seconds; a slow answer is waited for."""

import asyncio
import errno
import socket

import pytest

from openlaunch.client.config import Address
from openlaunch.client.effects import Request
from openlaunch.client.lean import LeanTransport
from openlaunch.client.sockets import AwaitableNetwork, AwaitableSocket, BlockingNetwork, Remote
from openlaunch.client.transport import CONNECT_SECONDS, MOVE_ON_SECONDS, Target


async def option_of(network, seconds: float) -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        remote = Remote(f"http://127.0.0.1:{listener.getsockname()[1]}", None, seconds)
        connected = await network(remote).connect()
        try:
            sock = (
                connected._sock
                if network is BlockingNetwork
                else connected._transport.get_extra_info("socket")
            )
            return int(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        finally:
            connected.close()
            await asyncio.sleep(0)


@pytest.mark.parametrize("network", [BlockingNetwork, AwaitableNetwork])
@pytest.mark.parametrize(("seconds", "asked"), [(CONNECT_SECONDS, 0), (MOVE_ON_SECONDS, 1)])
def test_a_silent_machine_is_asked_where_there_is_another_server(network, seconds, asked):
    assert asyncio.run(option_of(network, seconds)) == asked


def test_what_the_system_gives_up_is_a_lost_connection_and_no_slow_answer():
    target = Target.of(Address("http://server", "", "the test"), 5.0)
    transport, request = LeanTransport(target, lambda: None, None), Request("GET", "/", timeout=5.0)
    lost = transport.failure(request, TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
    slow = transport.failure(request, TimeoutError("timed out"))
    assert "Connection timed out" in str(lost)
    assert "5 seconds" in str(slow)
    assert lost.sent


def test_a_connection_is_closed_that_closed_itself_when_all_was_sent():
    async def main():
        here, there = socket.socketpair()
        with there:
            here.setblocking(False)
            there.setblocking(False)
            transport, connection = await asyncio.get_running_loop().create_connection(
                AwaitableSocket, sock=here
            )
            transport.write(b"x" * 10_000_000)
            there.shutdown(socket.SHUT_WR)  # the end of the answer, while the request is not sent
            async with asyncio.timeout(60):
                while await asyncio.get_running_loop().sock_recv(there, 1_000_000):
                    pass
            await asyncio.sleep(0)
            connection.close()
            assert transport.is_closing()

    asyncio.run(main())
