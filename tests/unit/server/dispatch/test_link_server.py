"""Connections of which it is not known yet which worker they are."""

import asyncio
import json
import os
import socket
import tempfile
import threading
import time

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from server_links import Wire, in_loop

from openlaunch.errors import ConfigurationError
from openlaunch.server.dispatch.frame_link import SMALL_BYTES
from openlaunch.server.dispatch.link_server import (
    LEFT_SECONDS,
    MAX_OF_ONE_PROCESS,
    MAX_STRANGERS,
    LinkServer,
    Stranger,
    Strangers,
    remove_leftovers,
)
from openlaunch_worker import handshake
from openlaunch_worker.frames import HEADER, Kind, encode


class Expecting:
    """Expects the token "right", once, and keeps the connection that has it."""

    def __init__(self) -> None:
        self.transports: list[asyncio.Transport] = []
        self._used = False

    def find(self, token: str, seat: int = 0) -> "Expecting | None":
        used, self._used = self._used, self._used or token == "right"
        return self if token == "right" and not used else None

    def connect(self, transport: asyncio.Transport) -> None:
        self.transports.append(transport)


def connect(strangers: Strangers, process: int = 0) -> tuple[Stranger, Wire]:
    stranger, wire = Stranger(strangers, process), Wire()
    stranger.connection_made(wire)
    return stranger, wire


def hello(token: object) -> bytes:
    return encode(Kind.HELLO, 0, json.dumps({"token": token, "pid": 1}).encode())


@in_loop
async def test_the_connection_with_an_expected_token_becomes_that_workers():
    expecting = Expecting()
    strangers = Strangers(expecting.find)
    stranger, wire = connect(strangers)
    stranger.data_received(hello("right"))
    assert expecting.transports == [wire]
    assert not wire.closed
    assert len(strangers) == 0


@in_loop
async def test_a_token_is_good_once():
    expecting = Expecting()
    strangers = Strangers(expecting.find)
    (first, _), (second, wire) = connect(strangers), connect(strangers)
    first.data_received(hello("right"))
    second.data_received(hello("right"))
    assert wire.closed
    assert len(expecting.transports) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 9,
        hello("wrong"),
        hello({}),
        hello("right") + hello("right"),
        hello("right") + encode(Kind.READY, 0),
        encode(99, 0),
        encode(Kind.READY, 0),
        encode(Kind.LEAVING, 0),
        encode(Kind.RESULT, 1, b"\x00"),
        encode(Kind.HELLO, 0, b"no JSON"),
        encode(Kind.HELLO, 0, b"[]"),
        encode(Kind.HELLO, 0, b"{}"),
        encode(Kind.HELLO, 0, b"[" * 9000),
        HEADER.pack(SMALL_BYTES + 1, 0, Kind.HELLO),
        HEADER.pack(1, 0, Kind.BUNDLE),
    ],
)
@in_loop
async def test_what_is_not_one_hello_ends_the_connection(data):
    stranger, wire = connect(Strangers(Expecting().find))
    stranger.data_received(data)
    assert wire.closed


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes_end_the_connection_at_most(pieces):
    @in_loop
    async def main() -> None:
        strangers = Strangers(Expecting().find)
        (stranger, wire), (other, wire_of_other) = connect(strangers, 1), connect(strangers, 2)
        for data in pieces:
            if not wire.closed:
                stranger.data_received(data)
        stranger.connection_lost(None)
        other.data_received(hello("right"))
        assert not wire_of_other.closed
        assert len(strangers) == 0

    main()


@in_loop
async def test_of_many_connections_of_one_process_the_oldest_end():
    strangers = Strangers(Expecting().find)
    _, older = connect(strangers, 2)
    wires = [connect(strangers, 1)[1] for _ in range(MAX_OF_ONE_PROCESS + 3)]
    assert [wire.closed for wire in wires] == [True] * 3 + [False] * MAX_OF_ONE_PROCESS
    assert not older.closed


@in_loop
async def test_of_the_connections_of_many_processes_the_oldest_end():
    strangers = Strangers(Expecting().find)
    wires = [connect(strangers, process)[1] for process in range(MAX_STRANGERS + 3)]
    assert [wire.closed for wire in wires] == [True] * 3 + [False] * MAX_STRANGERS
    assert len(strangers) == MAX_STRANGERS


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_thousands_of_connections_without_hello_keep_no_worker_out(new_loop):
    async def main() -> None:
        expecting = Expecting()
        server = LinkServer(expecting.find)
        server.start()
        socks: list[socket.socket] = []

        def connect_many() -> None:
            for _ in range(1868):
                socks.append(handshake.connect(server.address))

        try:
            await asyncio.to_thread(connect_many)
            await asyncio.to_thread(socks[-1].sendall, hello("right"))
            async with asyncio.timeout(30):
                while not expecting.transports:
                    await asyncio.sleep(0.01)
            assert len(server.strangers) <= MAX_OF_ONE_PROCESS
            expecting.transports[0].abort()
        finally:
            for sock in socks:
                sock.close()
            server.close()
            async with asyncio.timeout(30):
                while len(server.strangers):
                    await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def test_a_worker_waits_where_many_others_wait_to_be_accepted(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address := str(tmp_path / "s"))
        listener.listen(1)
        listener.settimeout(30)
        socks: list[socket.socket] = []
        connecting = threading.Thread(
            target=lambda: socks.extend(handshake.connect(address) for _ in range(20))
        )
        connecting.start()
        for _ in range(20):
            listener.accept()[0].close()
        connecting.join(30)
        assert len(socks) == 20
        for sock in socks:
            sock.close()


def test_what_killed_servers_have_left_is_removed_and_nothing_else(tmp_path):
    old = time.time() - 2 * LEFT_SECONDS

    def folder(name, at=old):
        made = tmp_path / name
        made.mkdir()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(made / "workers.sock"))
        os.utime(made, (at, at))
        return made

    folder("openlaunch-dead")
    empty = tmp_path / "openlaunch-data-empty"
    empty.mkdir()
    key = tmp_path / "openlaunch-mtls-key"
    key.touch()
    for path in (key, empty):
        os.utime(path, (old, old))
    young, other, alive = folder("openlaunch-young", time.time()), folder("other"), folder("openlaunch-alive")
    full = folder("openlaunch-full")
    (full / "data").touch()
    os.utime(full, (old, old))
    link = tmp_path / "openlaunch-link"
    link.symlink_to(other)
    (alive / "workers.sock").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(alive / "workers.sock"))
        listener.listen()
        os.utime(alive, (old, old))
        remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([young, other, alive, full, empty, link])


def test_a_folder_for_temporary_files_that_is_too_long_is_named(tmp_path, monkeypatch):
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(ConfigurationError, match="AF_UNIX path too long; name another folder with TMPDIR"):
        LinkServer(lambda worker, seat: None).start()
