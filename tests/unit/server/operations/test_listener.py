"""Accepting connections: on a socket of ours, also while no file can be opened."""

import asyncio
import contextlib
import logging
import os
import resource
import socket

import uvloop

from openlaunch.server.operations.listener import Listener


@contextlib.contextmanager
def no_further_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)  # the lowest number that is free
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_where_no_file_can_be_opened_connections_wait_and_the_log_says_it_once(caplog):
    async def main():
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        taken: asyncio.Queue[socket.socket] = asyncio.Queue()
        listener = Listener(sock, taken.put_nowait)
        listener.start()
        with socket.socket() as client:
            client.setblocking(False)
            with no_further_files():
                await asyncio.get_running_loop().sock_connect(client, sock.getsockname())
                await asyncio.sleep(0.5)  # several tries
                assert taken.empty()
            async with asyncio.timeout(10):
                (await taken.get()).close()
        listener.close()

    with caplog.at_level(logging.ERROR):
        uvloop.run(main())
    assert caplog.text.count("connections can't be accepted") == 1
