"""Heads and chunked bodies of requests: what is read, what is refused, and that nothing else can happen."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.errors import APIError, BadRequest, HeadTooLarge, NotServed
from openlaunch.server.gateway.request_reader import (
    FREE_FRAMING_BYTES,
    MAX_CHUNK_LINE_BYTES,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_TRAILER_BYTES,
    ChunkDecoder,
    Head,
    check_part_of_head,
)


def head(*lines, request=b"POST /v1/x?a=b HTTP/1.1", host=b"Host: x"):
    return Head(b"\r\n".join([request, *([host] if host else []), *lines, b"", b""]))


class TestHead:
    def test_what_a_request_says(self):
        read = head(b"Content-Length: 12", b"Expect: 100-continue")
        assert (read.method, read.path, read.query) == (b"POST", b"/v1/x", b"a=b")
        assert (read.length, read.chunked, read.expects_continue) == (12, False, True)
        assert read.headers[0] == (b"host", b"x")

    @pytest.mark.parametrize(
        ("request_", "lines", "keeps"),
        [
            (b"GET / HTTP/1.1", [], True),
            (b"GET / HTTP/1.1", [b"Connection: Close"], False),
            (b"GET / HTTP/1.1", [b"Connection: upgrade, close"], False),
            (b"GET / HTTP/1.1", [b"Connection: Upgrade", b"Upgrade: h2c"], True),
            (b"GET / HTTP/1.0", [b"Connection: keep-alive"], False),
        ],
    )
    def test_whether_the_connection_stays(self, request_, lines, keeps):
        assert head(*lines, request=request_).keep_alive is keeps

    @pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"anything"])
    def test_an_upgrade_changes_nothing_about_the_body(self, protocol):
        read = head(b"Connection: Upgrade", b"Upgrade: " + protocol, b"Content-Length: 5")
        assert read.length == 5

    @pytest.mark.parametrize(
        ("target", "path"),
        [
            (b"http://h/v1/x", b"/v1/x"),
            (b"HTTPS://h:1/v1/x", b"/v1/x"),
            (b"http://h", b"/"),
            (b"*", b"*"),
            (b"//x", b"//x"),
        ],
    )
    def test_targets(self, target, path):
        assert head(request=b"GET " + target + b" HTTP/1.1").path == path

    @pytest.mark.parametrize(
        "lines",
        [
            [b"Content-Length: 4", b"Content-Length: 4"],
            [b"Content-Length: 4", b"Transfer-Encoding: chunked"],
            [b"Transfer-Encoding: chunked", b"Content-Length: 4"],
            [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
            [b"Transfer-Encoding: gzip, chunked"],
            [b"Transfer-Encoding: identity"],
            [b"Content-Length: +4"],
            [b"Content-Length: 4,4"],
            [b"Content-Length: 0x4"],
            [b"Content-Length: " + b"9" * 19],
            [b"Content-Length:"],
            [b"Host: y"],
            [b"X: a\r\n b"],
            [b"X : a"],
            [b"X: a\x00b"],
            [b"X: a\rb"],
        ],
    )
    def test_what_two_servers_could_read_differently_is_refused(self, lines):
        with pytest.raises(BadRequest):
            head(*lines)

    @pytest.mark.parametrize(
        "request_",
        [
            b"GET /",
            b"GET / HTTP/1.9",
            b"GET / HTTP/2.0",
            b"PRI * HTTP/2.0",
            b"CONNECT a:1 HTTP/1.1",
            b"GET x HTTP/1.1",
            b"GET /\xff HTTP/1.1",
        ],
    )
    def test_requests_that_are_not_served(self, request_):
        with pytest.raises(BadRequest):
            head(request=request_)

    @pytest.mark.parametrize("method", [b"BREW", b"PROPFIND", b"get", b"TRACE", b"A-B_C"])
    def test_methods_that_no_path_takes_are_refused_as_such(self, method):
        with pytest.raises(NotServed, match=method.decode()):
            head(request=method + b" / HTTP/1.1")

    def test_a_host_is_needed(self):
        with pytest.raises(BadRequest):
            head(host=None)
        assert head(host=None, request=b"GET / HTTP/1.0").path == b"/"

    def test_chunks_are_of_http_1_1(self):
        with pytest.raises(BadRequest):
            head(b"Transfer-Encoding: chunked", request=b"POST / HTTP/1.0")

    def test_the_number_of_headers_has_a_limit(self):
        head(*[b"X: y"] * (MAX_HEADERS - 1))
        with pytest.raises(HeadTooLarge):
            head(*[b"X: y"] * MAX_HEADERS)

    @pytest.mark.parametrize(
        "data", [b"\x16\x03\x01", b"GET / HTTP/1.1\n\n", b"GET / HTTP/1.1\nHost: x\n\r\n"]
    )
    def test_what_can_become_no_head_is_refused_at_once(self, data):
        with pytest.raises(BadRequest):
            check_part_of_head(data)

    def test_a_part_of_a_head_has_a_limit(self):
        check_part_of_head(b"G" * (MAX_HEAD_BYTES - 1))
        with pytest.raises(HeadTooLarge):
            check_part_of_head(b"G" * MAX_HEAD_BYTES)


def decoded(data, sizes=()):
    """The body, what is left behind it, and whether it has ended; the data comes in pieces of these sizes."""
    decoder, body = ChunkDecoder(), b""
    for size in sizes:
        body += decoder.decode(data[:size])
        data = data[size:]
    body += decoder.decode(data)
    return body, bytes(decoder.rest), decoder.ended


class TestChunks:
    def test_a_body_and_what_is_behind_it(self):
        assert decoded(b"3\r\nabc\r\n0\r\n\r\nGET /") == (b"abc", b"GET /", True)

    def test_trailers_are_dropped(self):
        data = b"1;x=y\r\na\r\n0\r\nX: y\r\nAuthorization: Bearer z\r\n\r\n"
        assert decoded(data) == (b"a", b"", True)

    @given(
        chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=8),
        sizes=st.lists(st.integers(1, 12), max_size=60),
        rest=st.binary(max_size=10),
    )
    def test_however_it_is_cut_it_is_the_same(self, chunks, sizes, rest):
        data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n" + rest
        assert decoded(data, sizes) == (b"".join(chunks), rest, True)

    @pytest.mark.parametrize(
        "data",
        [
            b"zz\r\n",
            b"-1\r\n",
            b" 1\r\na\r\n",
            b"0x1\r\na\r\n",
            b"f" * 17 + b"\r\n",
            b"1\na\n0\n\n",
            b"1\r\nabc",
            b"1\r\na\n\n0",
            b"1;\x00\r\na\r\n",
            b"0\r\nX y\r\n\r\n",
            b"0\r\n: y\r\n\r\n",
            b"0\r\nX: \x00\r\n\r\n",
            b"1" * MAX_CHUNK_LINE_BYTES,
            b"0\r\n" + b"X: y\r\n" * MAX_TRAILER_BYTES,
        ],
    )
    def test_framing_that_is_none_is_refused(self, data):
        with pytest.raises(BadRequest):
            decoded(data)

    def test_tiny_chunks_are_taken_in_small_bodies_and_refused_in_large_ones(self):
        tiny = b"1\r\na\r\n"
        few = FREE_FRAMING_BYTES // 8
        assert len(decoded(tiny * few)[0]) == few
        with pytest.raises(BadRequest, match="framing"):
            decoded(tiny * FREE_FRAMING_BYTES)


TOKENS = [
    *(
        b"GET ",
        b"POST ",
        b"/v1/x",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b",",
    ),
    *(b"Host: x", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"chunked", b"Connection: close"),
    *(b"Upgrade: h2c", b"Expect: 100-continue", b"0", b"3", b"\x00", b"\xff", b"abc", b"http://h"),
]


@given(st.lists(st.sampled_from(TOKENS) | st.binary(max_size=4), max_size=14).map(b"".join))
def test_a_head_is_read_as_h11_reads_it_or_refused(made):
    """Where both take a head, they see the same request with the same body: nothing can be smuggled past either."""
    data = b"POST /v1/x HTTP/1.1\r\nHost: x\r\n" + made + b"\r\n\r\n"
    data = data[: data.index(b"\r\n\r\n") + 4]
    try:
        ours = Head(data)
    except APIError:
        return
    other = h11.Connection(h11.SERVER)
    other.receive_data(data)
    try:
        theirs = other.next_event()
    except h11.RemoteProtocolError:
        return  # stricter than we are in what has nothing to do with lengths
    assert (theirs.method, theirs.target) == (ours.method, ours.url)
    given = dict(theirs.headers)
    assert ours.chunked == (b"transfer-encoding" in given)
    if not ours.chunked:
        assert ours.length == int(given.get(b"content-length", 0))


@given(st.lists(st.sampled_from(TOKENS) | st.binary(max_size=6), max_size=20).map(b"".join))
def test_whatever_comes_as_a_chunked_body_is_taken_or_refused(data):
    try:
        body, rest, _ = decoded(data)
    except APIError:
        return
    assert len(body) + len(rest) <= len(data)
