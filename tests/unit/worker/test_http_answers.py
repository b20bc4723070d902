"""What the worker makes of the answers of HTTP servers: a command's, a container's, and of those that inputs are at.

The server here answers each request with the very bytes that the request asks for, and then closes the connection.
"""

import asyncio
import gzip
import json
import socketserver
import threading
import zlib
from contextlib import aclosing

import pytest

from openlaunch_worker.documents import Limits
from openlaunch_worker.failures import Refusal
from openlaunch_worker.fetch import Transfer
from openlaunch_worker.forwarder import Forwarder

MOST = 1000
FLAVOR = {"predict_route": "/predict", "streaming_predict_route": "/stream"}
GZIP = "content-encoding: gzip"


async def closed(forwarder):
    """Close the connections that are kept, which a worker does by its end."""
    for connection in forwarder._upstream._free:
        connection.close()
    await asyncio.sleep(0)


class Command:
    """The way to the server as to a command, on an event loop of its own."""

    def __init__(self, server, streaming=False):
        self._forwarder = Forwarder("the command", server.server_address[1], MOST)
        self._predict = self._forwarder.predict(FLAVOR, streaming)
        self._runner = asyncio.Runner()

    def __enter__(self):
        self._runner.__enter__()
        return self

    def __exit__(self, *reason):
        self._runner.run(closed(self._forwarder))
        return self._runner.__exit__(*reason)

    def __call__(self, **args):
        return self._runner.run(self._predict(**args))

    def stream(self, got, **args):
        """Append what it yields."""

        async def read():
            async with aclosing(self._predict(**args)) as items:
                async for item in items:
                    got.append(item)

        self._runner.run(read())


class Answers(socketserver.StreamRequestHandler):
    def handle(self):
        first, *headers = iter(lambda: self.rfile.readline().decode().strip(), "")
        sizes = [int(h.partition(":")[2]) for h in headers if h.lower().startswith("content-length:")]
        body = self.rfile.read(sum(sizes))
        raw = json.loads(body)["raw"] if body else first.split()[1].strip("/")
        self.server.seen.append(raw)
        self.wfile.write(bytes.fromhex(raw))


@pytest.fixture(scope="module")
def server():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answers) as server:
        server.seen = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def head(*lines, status="200 OK"):
    return "\r\n".join((f"HTTP/1.1 {status}", *lines, "", "")).encode()


def sized(body, *lines, size=None, status="200 OK"):
    return head(*lines, f"content-length: {len(body) if size is None else size}", status=status) + body


def chunked(*chunks, kind="text/event-stream", end=b"0\r\n\r\n"):
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head(f"content-type: {kind}", "transfer-encoding: chunked") + pieces + end


def until_closed(body, kind="text/event-stream"):
    return head(f"content-type: {kind}") + body


def asked(server, raw):
    with Command(server) as predict:
        return predict(raw=raw.hex())


def streamed(server, raw):
    """The items, and then why the stream failed."""
    got = []
    try:
        with Command(server, streaming=True) as predict:
            predict.stream(got, raw=raw.hex())
    except Refusal as refusal:
        got.append(str(refusal))
    return got


def fetched(server, raw):
    url = f"http://127.0.0.1:{server.server_address[1]}/{raw.hex()}"
    return Transfer(url).fetch(Limits(1, MOST, MOST, 5.0, allow_private=True))


CUT = {
    "a body": sized(b'{"answer": 1', size=100),
    "a body of a number": sized(b"12", size=3),
    "a chunk": chunked(b"1234", kind="text/plain", end=b"9\r\n123"),
    "between chunks": chunked(b"1234", kind="text/plain", end=b""),
    "in a chunk's size": chunked(b"1234", kind="text/plain", end=b"1"),
    "in the headers": b"HTTP/1.1 200 OK\r\nContent-Type: text/pl",
    "in gzip data": sized(gzip.compress(b"1234")[:-9], GZIP),
    "a part of it, and it says so": sized(b"1234", status="206 Partial Content"),
}


@pytest.mark.parametrize("raw", CUT.values(), ids=CUT)
def test_an_answer_that_is_cut_short_is_a_failure(server, raw):
    with pytest.raises(Refusal, match=r"^POST /predict of the command: .*(cut short|206)"):
        asked(server, raw)
    with pytest.raises(Refusal, match=r"^the input could not be fetched from .*(cut short|206)"):
        fetched(server, raw)


def test_lines_of_json_that_end_in_the_middle_of_one_are_a_failure(server):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
    assert asked(server, head + b'1\n{"a": 2}\n') == '1\n{"a": 2}\n'
    with pytest.raises(Refusal, match="cut short: the connection ended in the middle of a line"):
        asked(server, head + b'1\n{"a":')


def test_an_answer_that_does_not_come_is_a_failure_and_is_not_asked_for_again(server):
    with Command(server) as predict:
        assert predict(raw=sized(b"1", "connection: close").hex()) == 1
        with pytest.raises(Refusal, match="it had no answer, and may have run"):
            predict(raw="")
        assert predict(raw=sized(b"2").hex()) == 2
    assert server.seen.count("") == 1


@pytest.mark.parametrize(
    "raw",
    [
        sized(b'{"a": [1, 2]}'),
        chunked(b'{"a":', b"[1, 2]}", kind="application/json"),
        until_closed(b'{"a": [1, 2]}', kind="application/json"),
        sized(gzip.compress(b'{"a": ') + gzip.compress(b"[1, 2]}"), GZIP),
        sized(zlib.compress(b'{"a": [1, 2]}'), "content-encoding: deflate"),
        sized(zlib.compress(b'{"a": [1, 2]}', wbits=-15), "content-encoding: Deflate"),
        sized(gzip.compress(gzip.compress(b'{"a": [1, 2]}')), "content-encoding: gzip, gzip"),
    ],
)
def test_a_whole_answer_is_the_value_whatever_its_framing_and_encoding(server, raw):
    assert asked(server, raw) == {"a": [1, 2]}
    assert json.loads(fetched(server, raw)) == {"a": [1, 2]}


WRONG = {
    "larger than the limit": sized(b"1" * (MOST + 1)),
    "is larger than the limit": chunked(b"1" * 600, b"1" * 600, kind="text/plain"),
    "of 1000 bytes": sized(gzip.compress(b"1" * 100_000), GZIP),
    "Content-Encoding 'br'": sized(b"1234", "content-encoding: br"),
    "not the gzip data": sized(b"1234", GZIP),
    "Transfer-Encoding 'gzip, chunked'": head("transfer-encoding: gzip, chunked") + b"4\r\n1234\r\n0\r\n\r\n",
}


@pytest.mark.parametrize(("words", "raw"), WRONG.items(), ids=WRONG)
def test_a_body_that_can_not_be_used_is_a_failure_that_says_why(server, words, raw):
    with pytest.raises(Refusal, match=words):
        asked(server, raw)
    with pytest.raises(Refusal, match=words):
        fetched(server, raw)


@pytest.mark.parametrize(
    ("words", "raw"),
    [
        ("not the JSON that its Content-Type says", sized(b"{'a': 1}", "content-type: application/json")),
        ("has to be a streaming one", sized(b"data: 1\n\n", "content-type: text/event-stream")),
        ("4 bytes of Content-Type 'image/png'", sized(b"\x89PNG", "content-type: image/png")),
        ("answered 418: teapot", sized(b"teapot\n", status="418 I'm a teapot")),
        ("answered 500: its answer was cut short", sized(b"teapot", size=10, status="500 Oh")),
    ],
)
def test_an_answer_of_another_kind_is_a_failure_that_says_so(server, words, raw):
    with pytest.raises(Refusal, match=words):
        asked(server, raw)


def test_text_is_read_in_the_charset_that_its_type_names(server):
    assert (
        asked(server, sized("käse".encode("latin-1"), "content-type: text/plain; charset=latin-1")) == "käse"
    )
    assert asked(server, sized("käse".encode())) == "käse"
    assert asked(server, head(status="204 No Content")) == ""


def test_a_number_that_json_lacks_is_not_sent(server):
    with Command(server) as predict, pytest.raises(Refusal, match="a number that JSON does not have"):
        predict(x=float("inf"))


@pytest.mark.parametrize(
    "raw",
    [
        chunked(b"data: 1\n\n", b'data: {"a":\ndata: 2}\n\n', b"data: three\n\n"),
        chunked(b"data: 1\n", b'\ndata: {"a": 2}\n\ndata: th', b"ree\n\n"),
        chunked(b"\xef\xbb\xbfdata: 1\n\n", b'data: {"a": 2}\n\ndata: three'),
        chunked(b": ping\r\n\r\ndata:1\r", b'\n\r\nid: 7\r\ndata:{"a": 2}\r\n\r\nevent: x\r\ndata:three\r\n'),
        chunked(b'data: 1\r\rdata: {"a": 2}\r\r', b"data: three\r\r"),
        sized(
            b'data: 1\n\ndata: {"a": 2}\n\ndata: three\n\n', "content-type: Text/Event-Stream; charset=utf-8"
        ),
        until_closed(b'data: 1\n\ndata: {"a": 2}\n\ndata: three\n'),
        head() + b'data: 1\n\ndata: {"a": 2}\n\ndata: three\n\ndata: [DONE]\n\n',
        chunked(b'1\n{"a": 2}\n\n"th', b'ree"', kind="application/x-ndjson"),
    ],
)
def test_a_whole_stream_gives_its_items_the_last_one_too(server, raw):
    assert streamed(server, raw) == [1, {"a": 2}, "three"]


@pytest.mark.parametrize(
    "raw",
    [
        chunked(b"data: 1\n\n", b"data: 2\n\n", end=b""),
        chunked(b"data: 1\n\n", b"data: 2\n\n", end=b"9\r\ndata: 3"),
        sized(b"data: 1\n\ndata: 2\n\n", "content-type: text/event-stream", size=100),
        until_closed(b"data: 1\n\ndata: 2\n\ndata: 3"),
        until_closed(b"1\n2\n3", kind="application/jsonl"),
    ],
)
def test_a_stream_that_is_cut_short_ends_with_a_failure(server, raw):
    *got, why = streamed(server, raw)
    assert got == [1, 2]
    assert why.startswith("POST /stream of the command: its answer was cut short: the connection")


@pytest.mark.parametrize(
    ("words", "raw"),
    [
        ("Content-Type 'application/json': a stream needs", sized(b"{}", "content-type: application/json")),
        ("no server-sent events, but lines such as '{\"n\": 1}'", sized(b'{"n": 1}\n')),
        ("not JSON: '{'", chunked(b"{\n", kind="application/x-ndjson")),
        ("an event `error`: out of memory", chunked(b"event: error\ndata: out of memory\n\n")),
        ("Content-Encoding 'gzip'", sized(b"", GZIP, "content-type: text/event-stream")),
        ("answered 503: busy", sized(b"busy", status="503 Busy")),
        ("before any of the body", until_closed(b"")),
    ],
)
def test_what_is_no_stream_is_a_failure_that_says_so(server, words, raw):
    (why,) = streamed(server, raw)
    assert words in why
