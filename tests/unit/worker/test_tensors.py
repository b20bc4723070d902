"""Tensors of the Open Inference Protocol, as a worker reads and writes them."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from openlaunch_worker.binaries import Arrays, Misfit
from openlaunch_worker.failures import Refusal
from openlaunch_worker.files import File
from openlaunch_worker.tensors import SIZES, answer, array_of, media_type_of

BOTH = {"head": {"model_name": "m"}, "outputs": None, "binary": False}


def outputs(value, **wanted):
    payload = answer(value, {**BOTH, **wanted}, 10_000)
    length = payload[-1]
    media_type = payload[-1 - length : -1].decode()
    size = int(media_type.partition("length=")[2] or len(payload) - 1 - length)
    found = json.loads(payload[:size])
    return {each.pop("name"): each for each in found["outputs"]}, payload[size : -1 - length]


def read(datatype, shape, data):
    return array_of(np, File(data, media_type=media_type_of(datatype, shape)))


@dataclass
class Pair:
    left: float
    right: list


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (1, ["output"]),
        ([1, 2], ["output"]),
        ((1, 2), ["output_0", "output_1"]),
        ({"a": 1}, ["a"]),
        (Pair(1.0, [2]), ["left", "right"]),
    ],
)
def test_outputs_have_the_names_of_the_value(value, names):
    assert list(outputs(value)[0]) == names


def test_outputs_are_those_that_are_asked_for_in_that_order():
    found, data = outputs({"a": np.int8(1), "b": np.int8(2)}, outputs=[["b", True], ["a", True]])
    assert (list(found), data) == (["b", "a"], b"\2\1")


@pytest.mark.parametrize("datatype", [name for name in SIZES if name not in ("BF16", "BOOL")])
def test_an_array_is_the_same_bytes_in_and_out(datatype):
    data = bytes(range(SIZES[datatype] * 6))
    array = read(datatype, [3, 2], data)
    assert array.shape == (3, 2)
    for each in (array, np.asfortranarray(array), array.astype(array.dtype.newbyteorder(">"))):
        found, written = outputs(each, binary=True)
        assert (found["output"]["datatype"], found["output"]["shape"], written) == (datatype, [3, 2], data)


def test_bytes_keep_their_zeros():
    data = b"\2\0\0\0a\0\0\0\0\0"
    assert read("BYTES", [2], data).tolist() == [b"a\0", b""]
    assert outputs([b"a\0", b""], binary=True)[1] == data
    assert outputs(["a\0", ""], binary=True)[1] == data


def test_a_bool_is_true_for_any_byte_but_zero():
    assert read("BOOL", [3], b"\0\1\7").tolist() == [False, True, True]


def test_halves_of_floats_are_floats_where_ml_dtypes_is_missing():
    found = read("BF16", [2], b"\x80\x3f\x00\xc0")
    assert (found.dtype, found.tolist()) == (np.float32, [1.0, -2.0])


def test_a_type_that_a_bundle_does_not_have_is_refused():
    file = File(b"\x80\x3f", media_type=media_type_of("BF16", [1]))
    with pytest.raises(Misfit, match="an array of bfloat16 is needed, and one of float32"):
        Arrays("bfloat16", None).make(file)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.array([1 + 2j]), "is of complex128, and a tensor of BOOL"),
        (np.array(["2026"], "datetime64[D]"), "is of datetime64"),
        ({"a": object()}, "has an element of type object: bytes or text is needed"),
        ([[1], [2, 3]], "is not a tensor"),
        (float("nan"), "holds NaN or Infinity, which JSON does not have: ask for it as binary data"),
        (b"\xff", "has bytes that are not text: ask for it as binary data"),
        (np.zeros(20_000, np.int8), "over the server's limit of 10000"),
    ],
)
def test_what_is_no_tensor_is_refused(value, said):
    with pytest.raises(Refusal, match=said):
        outputs(value)
