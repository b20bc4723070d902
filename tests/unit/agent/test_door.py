"""Connections to an agent that are no servers, or have not shown it yet."""

import asyncio
import json
import logging
import socket
from contextlib import ExitStack, suppress

import pytest
import uvloop

from openlaunch.agent import serve
from openlaunch.engines.documents import Capacity
from openlaunch.nodes.identity import ClusterIdentity
from openlaunch.nodes.link import MAX_HELLO_BYTES, VERSION, Kind
from openlaunch.server.logs import RareLog
from openlaunch_worker.frames import encode

IDENTITY = ClusterIdentity("t" * 40)
MOST = 4
SECONDS = 30


class Host:
    """In place of the node: the links that have joined."""

    name, methods, identity = "here", {}, IDENTITY

    def __init__(self):
        self.refusals = RareLog(logging.getLogger("openlaunch"))
        self.links = []

    def capacity(self):
        return Capacity(cpus=1, memory=1, gpus=0, free_gpus=0)

    def joined(self, link):
        self.links.append(link)

    def left(self, link):
        if link in self.links:
            self.links.remove(link)


@pytest.fixture
def calls(monkeypatch):
    """Runs a function in a thread, with the host of an agent and what connects to it."""
    monkeypatch.setattr(serve, "MAX_STRANGERS", MOST)

    async def main(function):
        host, listener = Host(), socket.create_server(("127.0.0.1", 0))
        door = serve.Door(host, listener, IDENTITY.agent_context())
        address = listener.getsockname()
        door.start()
        try:
            with ExitStack() as stack:

                def connect():
                    return stack.enter_context(socket.create_connection(address, SECONDS))

                def dial():
                    return stack.enter_context(IDENTITY.server_context().wrap_socket(connect()))

                await asyncio.to_thread(function, host, connect, dial)
        finally:
            door.close()

    return lambda function: uvloop.run(main(function))


def hello(**changed):
    document = {"version": VERSION, "proof": IDENTITY.proof, "records": "r", **changed}
    return encode(Kind.HELLO, 0, json.dumps(document).encode())


def ended(sock):
    """Wait for the end of a connection."""
    with suppress(OSError):
        while sock.recv(65536):
            pass
    return True


def test_those_who_say_nothing_keep_no_server_out(calls):
    def check(host, connect, dial):
        silent = [connect() for _ in range(MOST)]
        server = dial()
        server.sendall(hello())
        assert server.recv(1)
        assert ended(silent[0])
        with_tls = [dial() for _ in range(MOST + 2)]
        assert ended(with_tls[0])
        assert len(host.links) == 1  # who has said HELLO makes room for nobody

    calls(check)


def test_more_than_may_wait_at_once_leave_nothing_open(calls):
    def check(host, connect, dial):
        silent = [connect() for _ in range(20 * MOST)]  # most are ended before anything was done with them
        assert all(ended(sock) for sock in silent[:-MOST])

    calls(check)


@pytest.mark.parametrize(
    "sent",
    [
        encode(Kind.HELLO, 0, b"x" * (MAX_HELLO_BYTES + 1))[:100],
        encode(Kind.BEAT, 0, b"x" * 100_000)[:100],
        encode(Kind.HELLO, 0, b"[" * MAX_HELLO_BYTES),
        encode(Kind.CALL, 1, b'{"method": "stop"}'),
        hello(proof="\ud800"),
        hello(proof=[]),
        hello(version={}),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 1000,
        encode(99, 0),
        encode(Kind.OPEN, 1, b"{}"),
    ],
)
def test_who_has_not_proved_it_is_refused_at_once(calls, caplog, sent):
    def check(host, connect, dial):
        stranger = dial()
        stranger.sendall(sent)
        assert ended(stranger)
        assert host.links == []

    calls(check)
    assert not [record for record in caplog.records if record.exc_info]


def test_what_strangers_do_is_a_line_of_the_log_once_in_a_while(calls, caplog):
    def check(host, connect, dial):
        for _ in range(5):
            stranger = connect()
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert ended(stranger)
            other = dial()
            other.sendall(hello(proof="another"))
            assert ended(other)

    calls(check)
    assert len([text for text in caplog.messages if "is not from a server" in text]) == 1
    assert len([text for text in caplog.messages if "is refused" in text]) == 1
