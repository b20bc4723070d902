"""Messages of gRPC that take far more memory or time than they have bytes."""

import json
from base64 import b64encode

import pytest

from openlaunch.errors import BadRequest
from openlaunch.server.gateway.grpc_messages import (
    HEAD_BYTES,
    METHODS,
    PIECE_BYTES,
    body_of,
    infer_answer,
    parsed,
    stream_answer,
    stream_item,
)
from openlaunch_worker.tensors import HEADER

Infer = METHODS["ModelInfer"].request


def field(number, data):
    size, left = b"", len(data)
    while left > 127:
        size, left = size + bytes((left & 127 | 128,)), left >> 7
    return bytes((number << 3 | 2,)) + size + bytes((left,)) + data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x2a\0" * HEAD_BYTES, "over 4000 fields"),
        (b"\x3a\0" * HEAD_BYTES, "over 4000 fields"),
        (field(5, field(3, b"\1" * HEAD_BYTES)), "beside raw_input_contents, and 1048576 are allowed"),
        (
            field(5, field(5, field(8, b"") * HEAD_BYTES)),
            "beside raw_input_contents, and 1048576 are allowed",
        ),
        (field(5, field(3, b"\1" * 1000)), "over 32 dimensions"),
        (field(5, b"".join(field(4, field(1, b"%d" % i)) for i in range(1001))), "1000 parameters"),
        (b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "not a request of the protocol"),
        (b"\x2a\xff", "not a request of the protocol"),
        (b"\x2a", "not a request of the protocol"),
        (b"\x08\x01", "not a request of the protocol"),
        (b"\x2a\x02\xff\xff", "not a ModelInfer request"),
    ],
)
def test_what_is_not_a_request_or_has_too_much_beside_its_tensors_is_refused(data, said):
    with pytest.raises(BadRequest, match=said):
        body_of(parsed("ModelInfer", data), None)


def test_a_large_tensor_is_taken():
    tensors = [bytes(2**24), b"", b"\1" * 200]
    request, found = parsed(
        "ModelInfer", Infer(model_name="a", raw_input_contents=tensors).SerializeToString()
    )
    assert request == Infer(model_name="a")
    assert found == tensors


@pytest.mark.parametrize("sizes", [[8, -8] * 9, [8, 1], [-1], [8, 0] * 501])
def test_an_answer_whose_outputs_lie_over_each_other_is_not_one(sizes):
    made = {"name": "a", "datatype": "INT8", "shape": [8]}
    outputs = [{**made, "parameters": {"binary_data_size": size}} for size in sizes]
    head = json.dumps({"model_name": "a", "model_version": "b", "outputs": outputs}).encode()
    with pytest.raises(ValueError, match="output"):
        infer_answer({HEADER: str(len(head))}, head + bytes(8))


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES // 4 * 3, PIECE_BYTES + 1])
def test_an_item_of_a_stream_is_read_in_pieces(size):
    tensor = {"name": "a", "datatype": "UINT8", "shape": [size], "parameters": {"binary_data_size": size}}
    head = json.dumps({"model_name": "m", "model_version": "1", "outputs": [tensor]}).encode()
    media_type = f"application/octet-stream; {HEADER}={len(head)}".encode()
    item = b64encode(head + b"\1" * size + media_type + bytes([len(media_type)]))
    sent = stream_answer(stream_item(memoryview(b'"%b"' % item)), is_last=True)
    answer = METHODS["ModelStreamInfer"].answer.FromString(sent).infer_response
    assert list(answer.raw_output_contents) == [b"\1" * size]
    assert (answer.model_name, answer.outputs[0].shape) == ("m", [size])
    assert answer.parameters["triton_final_response"].bool_param


@pytest.mark.parametrize("item", [b"", b'"', b"[1]", b'"YQ', b'"Y"', b'"YQ==YQ=="', b'"\\u0059Q=="'])
def test_an_item_that_is_not_base64_is_refused(item):
    with pytest.raises(ValueError, match=r"JSON|base64|padding|data"):
        stream_item(memoryview(item))
