import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.client.http11 import Framing, HTTPError, chunk_size, header_block, parse_head, request_head
from openlaunch.client.predictions import EndpointRequest


def test_a_request_has_its_headers_and_its_length():
    block = header_block({"host": "h:1", "authorization": "Basic abc"})
    head = request_head("POST", "/v1/x?y=1", block, 12)
    assert (
        head
        == b"POST /v1/x?y=1 HTTP/1.1\r\nhost: h:1\r\nauthorization: Basic abc\r\ncontent-length: 12\r\n\r\n"
    )


@pytest.mark.parametrize("value", ["a\r\nevil: 1", "a\nb", "a\0"])
def test_a_header_can_not_smuggle_another(value):
    with pytest.raises(ValueError, match="line break"):
        header_block({"x": value})


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        (
            "X-User",
            "\u0396\u03c9\u03ae",
            ValueError,
            r"the header 'X-User' has '\u0396' at position 0.*up to U\+00FF",
        ),
        ("X-N", 5, TypeError, "the header 'X-N' is int, a str is needed"),
        (5, "x", TypeError, "the header 5 has a name that is int"),
        ("X User", "x", ValueError, "the header 'X User' has a name with other characters"),
        ("Content-Length", "3", ValueError, "the header 'Content-Length' is the client's own"),
    ],
)
def test_a_callers_header_that_cannot_be_sent_is_named(name, value, error, message):
    with pytest.raises(error, match=message):
        EndpointRequest(args={}, extra_headers={name: value}).headers()


def test_an_idempotency_key_that_cannot_be_sent_is_named():
    with pytest.raises(ValueError, match="idempotency_key has '\u2603' at position 6"):
        EndpointRequest(args={}, idempotency_key="order \u2603").headers()


def test_headers_of_all_that_http_allows_are_sent():
    headers = {"X-User": "Zo\u00eb", "X-Empty": "", "X-Tab": "a\tb"}
    assert EndpointRequest(args={}, extra_headers=headers).headers()["x-user"] == "Zo\u00eb"
    assert header_block(headers).startswith(b"X-User: Zo\xeb\r\nX-Empty: \r\n")


def test_an_answer_with_a_length():
    head = parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nX-a: 2\r\n\r\n")
    assert (head.status, head.framing, head.length, head.keep_alive) == (200, Framing.LENGTH, 5, True)
    assert head.headers["x-a"] == "1, 2"


def test_an_answer_in_chunks():
    head = parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert (head.framing, head.keep_alive) == (Framing.CHUNKED, True)


def test_an_answer_that_ends_with_its_connection():
    head = parse_head(b"HTTP/1.1 200 OK\r\n\r\n")
    assert (head.framing, head.keep_alive) == (Framing.CLOSE, False)


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", True),
    ],
)
def test_whether_a_connection_can_be_kept(head, keep_alive):
    assert parse_head(head).keep_alive is keep_alive


def test_no_content_has_no_body():
    head = parse_head(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (head.framing, head.length) == (Framing.LENGTH, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"",
    ],
)
def test_what_is_no_http_is_refused(data):
    with pytest.raises(HTTPError):
        parse_head(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_an_error(data):
    with contextlib.suppress(HTTPError):
        parse_head(data)


def test_chunk_sizes_are_hexadecimal_and_may_have_extensions():
    assert chunk_size(b"1a;name=value\r\n") == 26
    assert chunk_size(b"0\r\n") == 0


@pytest.mark.parametrize("line", [b"", b"\r\n", b"xyz\r\n", b"12", b"-1\r\n"])
def test_what_is_no_chunk_size_is_refused(line):
    with pytest.raises(HTTPError):
        chunk_size(line)
