"""The blocking and the awaitable client do the same with whatever a server does to a connection."""

import itertools
import re
import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest
from both_clients import FLAVOURS, Both

from openlaunch.client.effects import Request, call
from openlaunch.errors import OpenlaunchError

BODY = b'{"answer": "42"}'
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n" + BODY
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNKS = CHUNKED + b"9;name=value\r\n" + BODY[:9] + b"\r\n7\r\n" + BODY[9:] + b"\r\n0\r\nx-trailer: 1\r\n\r\n"
WITHOUT_LENGTH = b"HTTP/1.1 200 OK\r\n\r\n" + BODY
PATIENCE = 2.0
SHORT = 0.3
UNKNOWN = (
    "; whether the server carried the request out is not known: look before you send it again, or give it an "
    "idempotency_key"
)


class Server:
    """Answers the requests of each connection by the next of its `scripts`, each a function of the connection."""

    def __init__(self, *scripts: Callable):
        self.scripts = list(scripts)
        self.connections = 0
        self.stopped = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while not self.stopped.is_set():
            connection, _ = self.listener.accept()
            if not self.stopped.is_set():
                self.connections += 1
                self.threads.append(threading.Thread(target=self.serve, args=(connection,)))
                self.threads[-1].start()
            else:
                connection.close()

    def serve(self, connection):
        with connection:
            try:
                while connection.recv(1, socket.MSG_PEEK) and self.scripts.pop(0)(self, connection):
                    pass
            except OSError:
                pass

    def close(self):
        self.stopped.set()
        socket.create_connection(self.listener.getsockname()).close()
        for thread in self.threads:
            thread.join()
        self.listener.close()


def read_request(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionResetError
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    left = int(re.search(rb"content-length: (\d+)", head)[1]) - len(body)
    while left:
        left -= len(connection.recv(left))


def answer(*pieces, pause=0.0, then="stay"):
    """A script: read a request, send pieces with a pause before each, then stay, stall or close."""

    def script(server, connection):
        read_request(connection)
        for piece in pieces:
            server.stopped.wait(pause)
            connection.sendall(piece)
        if then == "stall":
            server.stopped.wait()
        return then == "stay"

    return script


@pytest.fixture(params=FLAVOURS)
def play(request):
    """Send requests to a server with these scripts; gives what came of each, without the server's address."""
    servers = []

    def played(*scripts, requests=1, seconds=PATIENCE, body=b"{}", before=lambda: None):
        server = Server(*scripts)
        both = Both(request.param, server.url, max_retries=1)
        servers.append((server, both))
        outcomes = []
        for _ in range(requests):
            asked = Request("POST", "/v1/x", body, timeout=seconds, prediction=True)
            try:
                outcomes.append(both.call(lambda: both.client.run(call(asked))).body)  # noqa: B023
            except OpenlaunchError as error:
                outcomes.append(f"{type(error).__name__}: {error}".replace(server.url, "SERVER"))
            before()
        played.connections = server.connections
        return outcomes if requests > 1 else outcomes[0]

    yield played
    for server, both in servers:
        both.close()
        server.close()


def bytes_of(data, size=1):
    return [data[i : i + size] for i in range(0, len(data), size)]


@pytest.mark.parametrize("data", [OK, CHUNKS, WITHOUT_LENGTH], ids=["length", "chunks", "no length"])
def test_an_answer_that_drips_for_longer_than_the_timeout_is_waited_for(play, data):
    pieces = bytes_of(data, len(data) // 6)
    assert play(answer(*pieces, pause=PATIENCE / 4, then="close")) == BODY


def test_a_server_that_says_that_it_still_works_is_waited_for(play):
    still = [b"HTTP/1.1 102 Processing\r\n\r\n"] * 5
    assert play(answer(*still, OK, pause=PATIENCE / 4)) == BODY


def test_a_request_that_the_server_takes_slowly_is_sent_to_its_end(play):
    def slow(server, connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        left, end = 8_000_000, time.monotonic() + 1.5 * PATIENCE
        while left > 0:
            left -= len(connection.recv(1_000_000))
            server.stopped.wait(max(0.0, end - time.monotonic()) / 20)
        connection.sendall(OK)

    assert play(slow, body=b"x" * 8_000_000) == BODY


@pytest.mark.parametrize("before", [b"", OK[:20], OK[:-1], CHUNKS[:-30], WITHOUT_LENGTH], ids=range(5))
def test_an_answer_that_stalls_is_given_up(play, before):
    outcome = play(answer(before, then="stall"), seconds=SHORT)
    assert outcome == f"ConnectionFailed: SERVER did not answer within 0.3 seconds{UNKNOWN}"


def test_a_request_that_the_server_does_not_take_is_given_up(play):
    def answer_nothing(server, connection):
        server.stopped.wait()

    outcome = play(answer_nothing, body=b"x" * 20_000_000, seconds=SHORT)
    assert outcome == f"ConnectionFailed: SERVER did not answer within 0.3 seconds{UNKNOWN}"


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (b"", "it was closed without an answer"),
        (OK[:20], "it was closed within an answer's headers"),
        (OK[:-1], "it was closed before the end of the answer's body"),
        (CHUNKS[:-30], "it was closed before the end of the answer's body"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "it was closed without an answer"),
    ],
)
def test_an_answer_that_is_cut_is_an_error(play, before, reason):
    outcome = play(answer(before, then="close"))
    assert outcome == f"ConnectionFailed: the connection to SERVER broke before its answer: {reason}{UNKNOWN}"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "the answer begins with 'SSH-2.0-OpenSSH_9.6'"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000, "the answer's headers are larger than 65536 bytes"),
        (CHUNKED + b"nine\r\n", "the answer has a chunk size of b'nine"),
        (CHUNKED + b"1" * 2000, "the answer's chunk line is larger than 1024 bytes"),
    ],
    ids=["ssh", "headers", "chunk", "chunk line"],
)
def test_what_is_not_http_is_an_error(play, data, reason):
    assert f"broke before its answer: {reason}" in play(answer(data, then="stall"))


@pytest.mark.parametrize("data", [OK, CHUNKS], ids=["length", "chunks"])
@pytest.mark.parametrize("size", [1, 3, 50])
def test_an_answer_may_come_in_pieces_of_any_size(play, data, size):
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    assert play(answer(*bytes_of(early + data, size)), answer(OK), requests=2) == [BODY, BODY]
    assert play.connections == 1


@pytest.mark.parametrize(
    "data",
    [
        WITHOUT_LENGTH,
        OK.replace(b"1.1", b"1.0"),
        OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"),
    ],
    ids=["no length", "http 1.0", "close"],
)
def test_a_connection_that_the_server_ends_is_replaced(play, data):
    assert play(answer(data, then="close"), answer(OK), requests=2) == [BODY, BODY]
    assert play.connections == 2


@pytest.mark.parametrize("data", [OK, CHUNKS], ids=["length", "chunks"])
def test_bytes_after_an_answer_are_not_taken_for_the_next(play, data):
    assert play(answer(data + b"HTTP/1.1 408 Request Timeout\r\n\r\n"), answer(OK), requests=2) == [BODY] * 2
    assert play.connections == 2


def test_bytes_on_an_idle_connection_are_not_taken_for_an_answer(play):
    sent = threading.Event()

    def late(server, connection):
        answer(OK)(server, connection)
        connection.sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        sent.set()

    assert play(late, answer(OK), requests=2, before=lambda: sent.wait(10) and time.sleep(0.05)) == [
        BODY,
        BODY,
    ]


@pytest.mark.parametrize("cut", [None, socket.SHUT_RDWR], ids=["closed", "shut"])
def test_a_request_is_not_sent_again_when_a_kept_connection_closes_after_it(play, cut):
    def gone(server, connection):
        read_request(connection)
        if cut is not None:
            connection.shutdown(cut)

    _, outcome = play(answer(OK), gone, answer(OK), requests=2)
    assert outcome.startswith("ConnectionFailed: the connection to SERVER broke before its answer")
    assert outcome.endswith(UNKNOWN)
    assert play.connections == 1


def test_a_request_is_not_sent_again_when_a_kept_connection_is_reset_after_it(play):
    def reset(server, connection):
        read_request(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    _, outcome = play(answer(OK), reset, answer(OK), requests=2)
    assert outcome.endswith(UNKNOWN)
    assert play.connections == 1


def test_a_server_that_refuses_for_now_is_asked_again(play):
    refused = b'{"code":"busy"}'
    busy = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 15\r\n\r\n" + refused
    assert play(answer(busy), answer(OK)) == BODY
    assert play.connections == 1


def test_a_refusal_before_the_whole_request_was_read_is_the_answer(play):
    def refuse(server, connection):
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1_000_000):
            pass

    assert "413" in play(refuse, body=b"x" * 20_000_000)


def test_large_answers_come_whole(play):
    body = bytes(itertools.islice(itertools.cycle(range(256)), 5_000_000))
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert play(answer(head + body)) == body
