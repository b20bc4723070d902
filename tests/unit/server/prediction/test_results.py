"""Answers that the gateway makes itself."""

import asyncio
import json
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from openlaunch.artifacts.signing import UrlSigner
from openlaunch.errors import Forbidden
from openlaunch.server.prediction.checks import Checks
from openlaunch.server.prediction.results import (
    SignedURLs,
    pickled_body,
)
from openlaunch.server.prediction.schemas import QUICK_BYTES, BundleSchemas
from openlaunch.server.prediction.values import PIECE_BYTES, events_in, item_in, parts_of, value_of
from openlaunch.server.proxies import Proxies
from openlaunch.server.settings import Settings
from openlaunch.tasks.states import failure
from openlaunch.wire.tasks import PredictResponse, TaskStatus
from openlaunch_worker.answers import HEAD, TAIL

MIB = 1 << 20
INTEGERS = BundleSchemas({"ResponseSchema": {"type": "array", "items": {"type": "integer"}}})


def success(value: object) -> bytes:
    """The body of a worker's answer."""
    result = {"result": json.dumps(value)}
    return json.dumps({"status": "SUCCESS", "result": result, "traceback": None, "status_code": 200}).encode()


def held(body: bytes, schemas: BundleSchemas) -> bytes:
    async def run() -> bytes:
        checks = Checks()
        try:
            return await checks.response("me", body, schemas)
        finally:
            await checks.stop()

    return asyncio.run(run())


def test_bodies_have_the_contracts_shape():
    failed = PredictResponse.model_validate_json(failure("the worker was killed", 502))
    assert (failed.status, failed.traceback, failed.status_code) == (
        TaskStatus.FAILURE,
        "the worker was killed",
        502,
    )
    pickled = PredictResponse.model_validate_json(pickled_body("http://x/y"))
    assert (pickled.status, pickled.result) == (TaskStatus.SUCCESS, {"result_url": "http://x/y"})


def test_a_reason_that_is_no_proper_text_does_no_harm():
    assert json.loads(failure("odd \udcff", 500))["traceback"] == "odd \udcff"


@pytest.mark.parametrize("size", [1, QUICK_BYTES])
def test_a_value_that_fits_is_passed_on_as_it_came(size):
    body = success([1] * size)
    assert held(body, INTEGERS) is body


@pytest.mark.parametrize("size", [1, QUICK_BYTES])
def test_a_value_that_does_not_fit_is_a_failure_that_says_where(size):
    answer = PredictResponse.model_validate_json(held(success([1] * size + ["x"]), INTEGERS))
    assert (answer.status, answer.status_code) == (TaskStatus.FAILURE, 500)
    assert (answer.traceback or "").endswith(f'response schema: {size}: "x" is not of type "integer"')


def test_without_a_schema_nothing_is_read():
    body = b"not even JSON"
    assert held(body, BundleSchemas({})) is body


def test_signed_urls_open_one_key_to_one_method_for_a_while():
    signer = UrlSigner(b"secret")
    url = urlsplit(SignedURLs(signer, 60, Proxies(Settings())).make("http://host:1", "GET", "results/a b"))
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert (url.netloc, url.path) == ("host:1", "/v1/artifacts/results/a%20b")
    now = time.time()
    signer.verify("GET", "results/a b", query["expires"], query["signature"], now)
    for method, key, when in (
        ("PUT", "results/a b", now),
        ("GET", "results/other", now),
        ("GET", "results/a b", now + 62),
    ):
        with pytest.raises(Forbidden):
            signer.verify(method, key, query["expires"], query["signature"], when)


@pytest.mark.parametrize("before", range(4))
def test_a_value_is_cut_between_its_escapes(before):
    text = "x" * (PIECE_BYTES - before) + '\\"' * PIECE_BYTES
    assert json.loads(value_of(success(text)) or b"") == text


def test_a_value_of_backslashes_takes_no_longer_than_another():
    answer = success("\\" * (4 * MIB))
    begun = time.process_time()
    assert len(value_of(answer) or b"") == 8 * MIB + 2
    assert time.process_time() - begun < 0.4


def test_the_items_of_a_piece_of_a_stream_are_found_without_a_copy_of_them():
    event = b"data: " + HEAD + b'"a\\n"' + TAIL + b"\n\n"
    for piece in (event, bytearray(event), event * 3, event[:-2]):
        found = list(events_in(piece))
        assert {each.obj for each in found} == {piece} if isinstance(piece, bytes) else found[0].obj is piece
        assert [item_in(each) for each in found] == [item for item, _ in parts_of(bytes(piece)) if item]
        assert {bytes(item_in(each) or b"") for each in found} == {b'"a\\n"'}
    for other in (event[6:], b": end\n\n", b"data: {}\n\n"):
        assert [item_in(each) for each in events_in(other)] == [None]
    assert list(events_in(b"")) == []
