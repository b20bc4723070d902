"""Responses that are taken apart as they come: any pieces give the same, and none is taken for whole that is not."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch_worker.http_body import BodyError
from openlaunch_worker.http_response import MAX_HEAD, ResponseParser

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def read(data, cuts=()):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    parser = ResponseParser()
    return parser, b"".join(parser.feed(data[start:end]) for start, end in pairwise(edges))


def chunked(chunks, trailers=b""):
    parts = [b"%X;name=value\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]
    return CHUNKED + b"".join(parts) + b"0\r\n" + trailers + b"\r\n"


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    st.sampled_from([b"", b"X-Sum: 1\r\n"]),
    st.lists(st.integers(0, 10_000), max_size=20),
)
def test_any_pieces_of_a_chunked_response_give_the_same_body(chunks, trailers, cuts):
    data = chunked(chunks, trailers)
    parser, body = read(data, cuts)
    assert (parser.is_done, parser.is_kept, body) == (True, True, b"".join(chunks))
    parser.end()
    for end in range(len(data)):
        parser, _ = read(data[:end])
        with pytest.raises(BodyError):
            parser.end()


@given(st.binary(max_size=300), st.lists(st.integers(0, 10_000), max_size=20))
def test_any_pieces_of_a_response_of_known_length_give_the_same_body(content, cuts):
    data = b"HTTP/1.1 102 Processing\r\n\r\n" + HEAD + b"content-length: %d\r\n\r\n" % len(content) + content
    parser, body = read(data, cuts)
    assert (parser.status, parser.is_done, parser.is_kept, body) == (200, True, True, content)
    assert parser.headers["content-type"] == "text/plain"
    for end in range(len(data)):
        parser, _ = read(data[:end])
        with pytest.raises(BodyError):
            parser.end()


def test_the_end_of_the_connection_ends_a_body_of_unknown_length():
    parser, body = read(HEAD + b"\r\nsome")
    assert (parser.is_done, parser.is_kept, body) == (False, False, b"some")
    parser.end()
    assert parser.is_done
    with pytest.raises(BodyError, match="before any of the body"):
        read(HEAD + b"\r\n")[0].end()


@pytest.mark.parametrize(
    "data",
    [
        CHUNKED + b"+5\r\nhello\r\n",
        CHUNKED + b"0x5\r\nhello\r\n",
        CHUNKED + b"\r\nhello\r\n",
        CHUNKED + b"4\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"1" * 5000,
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 1, 2\r\n\r\n",
        HEAD + b"content-length: " + b"9" * 5000 + b"\r\n\r\n",
        HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n",
        HEAD + b"no colon\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0\r\n\r\n",
        HEAD + b"x" * MAX_HEAD + b"\r\n\r\n",
    ],
)
def test_what_is_not_such_a_response_is_refused(data):
    with pytest.raises(BodyError):
        read(data)


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na", True),
        (b"HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 1\r\n\r\na", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
    ],
)
def test_a_connection_is_kept_where_the_response_allows_it(head, kept):
    parser, body = read(head)
    assert (parser.is_done, parser.is_kept) == (True, kept)
    assert body == (b"" if b"204" in head else b"a")


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_lines_of_a_head_may_end_without_a_carriage_return(cuts):
    parser, body = read(
        b"HTTP/1.1 103 Early Hints\n\n" + HEAD.replace(b"\r", b"") + b"Content-Length: 3\n\n[1]", cuts
    )
    assert (parser.is_done, body, parser.headers["content-type"]) == (True, b"[1]", "text/plain")


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x15\x03\x01", b"{"])
def test_what_does_not_begin_as_http_is_refused_before_its_end(data):
    with pytest.raises(BodyError, match=r"is not HTTP/1\.1, it begins with"):
        read(data)
