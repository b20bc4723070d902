"""Whole connections of made-up requests: valid ones, mutated ones, cut anywhere, half-closed, reset, read slowly.

The server's own connections on a real socket, with handlers that say which request they were called for. Whatever
comes: each answer is that of its request, in order; nothing that is inside a body is ever run; h11, where it has an
opinion, sees the same requests; nothing is held afterwards; and another client's requests are answered meanwhile.
`OPENLAUNCH_FUZZ_RUNS` sets the number of connections.
"""

import asyncio
import contextlib
import json
import logging
import os
import re
import socket
import struct
import zlib

import h11
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from smuggling import services_of

from openlaunch.errors import Unauthorized
from openlaunch.server.access.auth import Principal
from openlaunch.server.gateway.http_server import HttpServer
from openlaunch.wire.keys import Role

LONG = os.environ.get("OPENLAUNCH_CHAOS") == "long"
RUNS = int(os.environ.get("OPENLAUNCH_FUZZ_RUNS") or (20_000 if LONG else 1000))
RUNS_OF_A_TEST = 20_000
"""A test has a time limit; more runs are several tests."""

QUIET_SECONDS = 0.01
UNREAD = -1
"""The size of a body that its handler did not read."""
PIECE = b" " * 16_000
INNER = b"GET /asgi?id=inner HTTP/1.1\r\nHost: x\r\n\r\n"


def id_in(target):
    given = re.search(rb"(?:^|[?&])id=([a-z0-9-]*)", target)
    return given[1].decode() if given else ""


class Site:
    """A server whose handlers note the requests, by the port of their client, and answer with what they noted."""

    def __init__(self):
        self.seen = {}
        self.refused = []
        """Requests of strangers with large bodies."""
        self.errors = []
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda loop, context: self.errors.append(context))
        handlers = {
            (b"POST", b"/hot"): self._at_once,
            (b"POST", b"/later"): self._later,
            (b"POST", b"/stream"): self._stream,
        }
        self.services = services_of(self._app, self._admit, handlers)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self.server = HttpServer(self.services, listener, None)
        self.server.start()

    def _admit(self, scope):
        if not any(name == b"authorization" for name, _ in scope["headers"]):
            self.refused.append(id_in(scope["query_string"]))
            raise Unauthorized("no key")
        return Principal("key", "ada", Role.USER)

    def _note(self, client, scope, body):
        size, digest = (UNREAD, 0) if body is None else (len(body), zlib.crc32(body))
        noted = (id_in(scope["query_string"]), size, digest)
        self.seen.setdefault(client[1], []).append(noted)
        return json.dumps(noted).encode()

    def _at_once(self, exchange):
        exchange.respond(self._note(exchange._connection.client, exchange.scope, exchange.body))

    def _later(self, exchange):
        answer = self._note(exchange._connection.client, exchange.scope, exchange.body)
        self._loop.call_later(0.001, exchange.respond, answer)

    def _stream(self, exchange):
        answer = self._note(exchange._connection.client, exchange.scope, exchange.body)
        left = [PIECE] * 5

        def go_on():
            while left and not exchange.write_paused and not exchange.disconnected:
                exchange.write(left.pop(), {})
            if not left:
                exchange.end(answer, {})

        exchange.on_writable = go_on
        self._loop.call_soon(go_on)

    async def _app(self, scope, receive, send):
        body, more = b"", scope["path"] != "/unread"
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message["body"]
            more = message["more_body"]
        answer = self._note(scope["client"], scope, body if scope["path"] != "/unread" else None)
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def is_idle(self, connections):
        """Wait until nothing is held and no more connections are open than these."""
        async with asyncio.timeout(10):
            services = self.services
            while len(services.connections) > connections or services.tasks:
                await asyncio.sleep(0.001)
        assert (services.bodies.held, services.unread.held) == (0, 0)
        assert self.errors == []


# What is sent.

SIZES = st.sampled_from([0, 1, 5, 100, 4095, 4097, 20_000])
TOKENS = st.sampled_from(
    [
        *(
            b"\r\n",
            b"\n",
            b"\r",
            b" ",
            b"\t",
            b":",
            b",",
            b";",
            b"\x00",
            b"\xff",
            b"0",
            b"1",
            b"f",
            b"+",
            b"-",
            b"0x",
        ),
        *(
            b"Content-Length: 5\r\n",
            b"Content-Length: 0\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Host: y\r\n",
        ),
        *(
            b"Transfer-Encoding: identity\r\n",
            b"Connection: close\r\n",
            b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
        ),
        *(
            b"Expect: 100-continue\r\n",
            b" HTTP/1.0",
            b"0\r\n\r\n",
            b"5\r\nabcde\r\n",
            b"X: y\r\n z\r\n",
            INNER,
        ),
    ]
)
HEADERS = st.sampled_from(["Authorization: a", "X: y", "Upgrade: h2c", "Connection: Upgrade"])


@st.composite
def bodies(draw):
    return draw(st.sampled_from([b"", INNER, b"a" * 7, INNER * 3])) + b"b" * draw(SIZES)


@st.composite
def requests(draw, number):
    """A valid request of this number."""
    path = draw(st.sampled_from(["hot", "later", "stream", "asgi", "unread"]))
    body = draw(bodies())
    lines = [f"POST /{path}?id={number} HTTP/1.1", "Host: x"]
    lines += draw(
        st.lists(
            st.sampled_from(["Authorization: a", "X: y", "Upgrade: h2c", "Connection: Upgrade"]), max_size=3
        )
    )
    if draw(st.booleans()):
        data = body
        lines.append(f"Content-Length: {len(body)}")
    else:
        size = draw(st.sampled_from([10, 100] if len(body) < 200 else [1000, 30_000]))
        chunks = [body[start : start + size] for start in range(0, len(body), size)]
        extension = draw(st.sampled_from([b"", b";a=b"]))
        data = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks) + b"0\r\n"
        data += draw(st.sampled_from([b"", b"X: y\r\n"])) + b"\r\n"
        lines.append("Transfer-Encoding: chunked")
    return "\r\n".join([*lines, "", ""]).encode() + data


@st.composite
def mutations(draw, data):
    """These bytes with a few changes."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, min(len(data), 300)))
        data = data[:at] + draw(TOKENS | st.just(b"")) + data[at + draw(st.sampled_from([0, 0, 1, 5])) :]
    return data


@st.composite
def connections(draw):
    """What a client sends, in which pieces, whether all of it is valid, and how the connection ends."""
    sent = [draw(requests(number)) for number in range(draw(st.integers(1, 4)))]
    valid = draw(st.booleans())
    if not valid:
        at = draw(st.integers(0, len(sent) - 1))
        sent[at] = draw(mutations(sent[at]))
    data = b"".join(sent)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    end = draw(st.sampled_from(["close", "close", "half-close", "reset", "slow"]))
    return [piece for piece in pieces if piece], valid, len(sent), end


# The other side.


class Answers:
    """Reads the answers to requests from what the server sent."""

    def __init__(self):
        self._parser = h11.Connection(h11.CLIENT)
        self.statuses, self.bodies = [], []
        self._body = b""
        self._ask()

    def _ask(self):
        self._parser.send(
            h11.Request(method="POST", target="/", headers=[("Host", "x"), ("Content-Length", "0")])
        )
        self._parser.send(h11.EndOfMessage())

    def feed(self, data):
        """Take what came; b"" is the end."""
        with contextlib.suppress(h11.RemoteProtocolError) if not data else contextlib.nullcontext():
            self._parser.receive_data(data)
            while (event := self._parser.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Response):
                    self.statuses.append(event.status_code)
                elif isinstance(event, h11.Data):
                    self._body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    self.bodies.append(self._body)
                    self._body = b""
                    if self._parser.their_state is not h11.DONE:
                        return
                    self._parser.start_next_cycle()
                    self._ask()
                elif isinstance(event, h11.ConnectionClosed):
                    return


def read_by_h11(data):
    """The requests that h11 sees in these bytes, up to the first that it refuses; and whether it refused one."""
    parser, found, body = h11.Connection(h11.SERVER), [], b""
    parser.receive_data(data)
    request = None
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError:
            return found
        if isinstance(event, h11.Request):
            request, body = event, b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            found.append((id_in(request.target), len(body), zlib.crc32(body)))
            with contextlib.suppress(h11.LocalProtocolError):
                parser.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                parser.send(h11.EndOfMessage())
            if parser.our_state is not h11.DONE or parser.their_state is not h11.DONE:
                return found
            parser.start_next_cycle()
        else:
            return found


async def talk(site, pieces, expected, end):
    """Send the pieces and read the answers; gives the client's port and the answers."""
    loop, answers = asyncio.get_running_loop(), Answers()
    with socket.socket() as sock:
        sock.setblocking(False)
        if end == "slow":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(sock, site.address)
        port = sock.getsockname()[1]
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                await loop.sock_sendall(sock, piece)
                await asyncio.sleep(0)
            if end == "half-close":
                with contextlib.suppress(OSError):  # the server has closed it already
                    sock.shutdown(socket.SHUT_WR)
            elif end == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return port, answers
            elif end == "slow":
                await asyncio.sleep(0.005)
            while len(answers.bodies) < expected:
                patience = 10 if expected < 1000 else QUIET_SECONDS
                async with asyncio.timeout(patience):
                    data = await loop.sock_recv(sock, 65536)
                answers.feed(data)
                if not data:
                    break
    return port, answers


async def one(site, good, pieces, valid, number, end):
    data = b"".join(pieces)
    asked = asyncio.ensure_future(good.ask())
    try:
        port, answers = await talk(site, pieces, number if valid else 1000, end)
    except TimeoutError:
        assert not valid, "an answer is missing"
        port = None
    await asked
    await site.is_idle(connections=1)
    seen, refused = site.seen, site.refused
    site.seen, site.refused = {}, []
    ours = next((requests for client, requests in seen.items() if client != good.port), [])
    # Who has sent a large body is looked for in any case, and refused where it must not be a stranger.
    refused = [name for name in refused if all(name != mine for mine, *_ in ours)]
    theirs = [request for request in read_by_h11(data) if request[0] not in refused]
    for mine, other in zip(ours, theirs, strict=False):
        assert mine == other or mine == (other[0], UNREAD, 0), (ours, theirs)
    if valid:
        assert not any(name == "inner" for name, *_ in ours)
        assert [int(name) for name, *_ in ours] == sorted({int(name) for name, *_ in ours})
    if port is not None:
        told = [
            json.loads(body)
            for status, body in zip(answers.statuses, answers.bodies, strict=False)
            if status == 200
        ]
        assert [tuple(each) for each in told] == ours[: len(told)]
        if valid and end in ("close", "slow"):
            assert len(answers.bodies) == number, (answers.statuses, ours)
            assert answers.statuses.count(401) == len(refused)
            assert set(answers.statuses) <= {200, 401}


class Good:
    """Another client, on one connection all the time."""

    def __init__(self, sock):
        self._sock = sock
        self.port = sock.getsockname()[1]
        self._number = 0

    async def ask(self):
        self._number += 1
        loop, answer = asyncio.get_running_loop(), b""
        head = f"POST /later?id=good{self._number} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        await loop.sock_sendall(self._sock, head.encode())
        async with asyncio.timeout(10):
            while not answer.endswith(b"]"):
                answer += await loop.sock_recv(self._sock, 65536)
        assert f'"good{self._number}", 3' in answer.decode()


class Caught(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.fixture(scope="module")
def world():
    caught = Caught()
    logging.getLogger().addHandler(caught)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def start():
            site = Site()
            sock = socket.socket()
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, site.address)
            return site, Good(sock), sock

        site, good, sock = runner.run(start())
        yield lambda *given: runner.run(one(site, good, *given))
        sock.close()
        runner.run(site.server.stop())
    logging.getLogger().removeHandler(caught)
    assert caught.lines == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(-(-RUNS // RUNS_OF_A_TEST)))
def test_whatever_a_client_sends_harms_nobody_and_is_read_in_one_way(world, part):
    @settings(
        max_examples=min(RUNS, RUNS_OF_A_TEST),
        database=None,
        derandomize=RUNS <= 1000,  # always the same ones in `make test`
        suppress_health_check=list(HealthCheck),
    )
    @given(connections())
    def run(given_):
        world(*given_)

    run()
