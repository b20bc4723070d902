"""What of a worker's answer with tensors becomes headers."""

import pytest

from openlaunch.errors import ServerError
from openlaunch.server.gateway.inference_exchange import InferenceExchange, headers_of
from openlaunch.server.gateway.plain_exchange import LARGE_BYTES
from openlaunch_worker.tensors import HEADER


def test_the_length_of_the_json_is_a_header():
    assert headers_of(f"application/octet-stream; {HEADER}=12")[HEADER] == "12"


@pytest.mark.parametrize("length", ["", "-1", "1\r\nset-cookie: a=1", "\u0661", "1;2", "0x1"])
def test_a_model_adds_no_header_of_its_own(length):
    headers = headers_of(f"application/octet-stream; {HEADER}={length}")
    assert headers["content-type"] == "application/json"
    assert HEADER not in headers
    assert headers["content-security-policy"].startswith("sandbox")


def test_a_failure_that_is_too_large_is_not_read():
    exchange = InferenceExchange.__new__(InferenceExchange)
    exchange._collected = bytearray()
    with pytest.raises(ServerError, match="the worker's answer is not one"):
        exchange.respond(b'{"status": "FAILURE", "more": "%b"}' % (b"x" * LARGE_BYTES))
