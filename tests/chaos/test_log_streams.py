"""A model that prints 10,000 lines a second: they are followed, and no follower makes the server's memory grow."""

import socket
import sys
import threading
import time
from collections.abc import Callable

import pytest
from chaos_server import DEADLINE, memory_mib
from server_driver import SMALL, args, eventually, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the memory in Linux's /proc")

LINES_A_SECOND = 10_000
SECONDS = 3
GROWN_MIB = 24


def talk(seconds, rate, name):
    began, written = time.monotonic(), 0
    while written < seconds * rate:
        due = int((time.monotonic() - began) * rate)
        if due > written:
            print(
                "\n".join(f"{name} {number} of a log that is followed" for number in range(written, due)),
                flush=True,
            )
            written = due
        time.sleep(0.005)
    print(f"{name} ends", flush=True)
    return written


def follow(client, lines):
    with client.follow_endpoint_logs("talks", lines=1) as stream:
        for line in stream:
            lines[0] += 1
            lines[1] = line.line
            if line.line == "done ends":
                return


def who_does_not_read(client, endpoint_id):
    """A follower that takes nothing of what it is sent."""
    host, port = client.server.url.removeprefix("http://").split(":")
    sock = socket.create_connection((host, int(port)), timeout=DEADLINE)
    head = f"GET /v1/model-endpoints/{endpoint_id}/logs?follow=true HTTP/1.1\r\nHost: x\r\n"
    sock.sendall(f"{head}Authorization: Bearer {client.server.api_key}\r\n\r\n".encode())
    return sock


def test_a_log_of_10_000_lines_a_second_is_followed_without_growth(figure: Callable[[str], None]):
    with running() as client:
        endpoint = client.deploy(talk, name="talks", max_workers=1, **SMALL)
        lines = [0, ""]
        reader = threading.Thread(target=follow, args=(client, lines))
        reader.start()
        endpoint.predict(args(seconds=0, rate=0, name="nothing"))
        eventually(lambda: lines[1] == "nothing ends")
        with who_does_not_read(client, endpoint.model_endpoint.id):

            def burst(name):
                """Have so many lines printed, and return the server's memory once they have been read."""
                asked = args(seconds=SECONDS, rate=LINES_A_SECOND, name=name)
                assert endpoint.predict(asked, timeout=DEADLINE).value >= SECONDS * LINES_A_SECOND
                eventually(lambda: lines[1] == f"{name} ends")
                return memory_mib(client.server.pid)

            before = burst("first")
            grown = max(burst("second"), burst("done")) - before
        reader.join(DEADLINE)
        assert not reader.is_alive()
        figure(f"{lines[0]} lines were followed, memory {grown:+.1f} MiB")
        assert lines[0] >= 3 * SECONDS * LINES_A_SECOND
        assert grown < GROWN_MIB
