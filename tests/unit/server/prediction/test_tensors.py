"""Requests of the Open Inference Protocol that say other than they have."""

import json

import pytest

from openlaunch.errors import BadRequest, PayloadTooLarge
from openlaunch.server.prediction.signatures import signature_of
from openlaunch.server.prediction.tensors import read_inference
from openlaunch.wire.bundles import BINARY, DERIVED

ARRAY = {"type": ["array", "number", "boolean", "string"], BINARY: "array"}
SIGNATURE = signature_of({"RequestSchema": {DERIVED: True, "properties": {"x": ARRAY}}})


LIMIT = 1000


def tensor(**more):
    return {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2], **more}


def refused(inputs, data=b""):
    head = json.dumps({"inputs": inputs}).encode()
    with pytest.raises(BadRequest) as caught:
        read_inference(head + data, len(head), SIGNATURE, {}, LIMIT)
    return str(caught.value)


@pytest.mark.parametrize(
    ("shape", "size", "data", "said"),
    [
        ([-1], 4, b"1234", "inputs.0.shape.0: at least 0 is needed, and -1 was given"),
        ([2**63], 4, b"1234", "at most 1099511627776 is allowed, and 9223372036854775808 was given"),
        ([2**40] * 32, 8, b"12345678", "binary_data_size is 8"),
        ([1] * 33, 4, b"1234", "at most 32 items are allowed, "),
        ([True], 4, b"1234", "a whole number is needed, and True was given"),
        ([2], 7, b"1234567", "FP32 of shape [2] is 8 bytes, and binary_data_size is 7"),
        ([2], 2**70, b"12345678", "a whole number is needed"),
        ([2], -8, b"12345678", "at least 0 is needed, and -8 was given"),
        ([2], 8, b"1234567", "its 8 bytes are announced, and 7 are left behind the JSON"),
        ([2], 8, b"123456789", "1 bytes are left behind the last tensor: the inputs announce 8 together"),
    ],
)
def test_bytes_that_do_not_go_with_a_shape_are_refused(shape, size, data, said):
    sent = {"name": "x", "datatype": "FP32", "shape": shape, "parameters": {"binary_data_size": size}}
    assert said in refused([sent], data)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([tensor()] * 2, "'x' is given twice"),
        ([tensor()] * 1001, "at most 1000 items are allowed"),
        ([tensor(data=[[1, 2]])], "data is nested otherwise than shape [2] says"),
        ([tensor(data=[1])], "shape [2] is 2 elements, and data has 1"),
        ([tensor(data=["1", "2"])], "data has values of type str, and FP32 is needed"),
        ([tensor(datatype="INT8", data=[1, 300])], "data has a value that INT8 does not have"),
        ([tensor(datatype="BF16")], "BF16 has no form in JSON: send it as binary data"),
        ([tensor(datatype="fp32")], "'BF16' or 'BYTES' is needed, and 'fp32' was given"),
        ([tensor(data=None)], "give data or binary_data_size: neither is given"),
        ([tensor(parameters={"binary_data_size": 8})], "give data or binary_data_size: both are given"),
        (
            [tensor(parameters={"shared_memory_region": "a"})],
            "there is no such field, and 'a' was given",
        ),
        (None, "a list is needed"),
    ],
)
def test_what_is_no_tensor_is_refused(inputs, said):
    assert said in refused(inputs)


def test_tensors_of_json_that_make_too_many_bytes_are_refused_where_they_are_read():
    head = json.dumps({"inputs": [tensor(shape=[251], data=[1] * 251)]}).encode()
    with pytest.raises(PayloadTooLarge, match="are 1004 bytes as binary data, the limit is 1000"):
        read_inference(head, len(head), SIGNATURE, {}, LIMIT)


def test_tensors_of_json_and_bytes_are_in_one_body():
    array = {"x": ARRAY, "y": ARRAY}
    signature = signature_of({"RequestSchema": {DERIVED: True, "properties": array}})
    binary = {"name": "y", "datatype": "INT8", "shape": [3], "parameters": {"binary_data_size": 3}}
    head = json.dumps({"inputs": [tensor(), binary]}).encode()
    found = read_inference(head + b"abc", len(head), signature, {}, LIMIT)
    parts = {path[0]: bytes(found.body[part.start : part.end]) for path, part in found.form.files}
    assert parts == {"x": b"\0\0\x80\x3f\0\0\0\x40", "y": b"abc"}


def test_only_annotated_arrays_that_are_checked_are_tensors():
    for schema in (None, {}, {"properties": {"x": ARRAY}}, {DERIVED: False, "properties": {"x": ARRAY}}):
        assert signature_of({"RequestSchema": schema}) is None
    text = {DERIVED: True, "properties": {"x": {"type": "string", BINARY: "bytes"}}}
    assert signature_of({"RequestSchema": text}) is None
