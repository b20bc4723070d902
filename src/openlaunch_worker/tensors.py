"""Tensors as the Open Inference Protocol has them: arrays of their bytes, and the answer with those of a value."""

import base64
import importlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from openlaunch_worker.failures import Refusal
from openlaunch_worker.files import OCTETS, File

SIZES: Final = {
    **dict.fromkeys(("BOOL", "INT8", "UINT8"), 1),
    **dict.fromkeys(("INT16", "UINT16", "FP16", "BF16"), 2),
    **dict.fromkeys(("INT32", "UINT32", "FP32"), 4),
    **dict.fromkeys(("INT64", "UINT64", "FP64"), 8),
}
"""Bytes of an element, by the protocol's name of its type; one of BYTES has its own length in front."""

BYTES: Final = "BYTES"
TENSOR: Final = "application/vnd.openlaunch.tensor"
"""The media type of a part that is a tensor; its parameters are the type of the elements, and the shape."""

HEADER: Final = "inference-header-content-length"
"""The parameter of an answer's media type, and the header of HTTP, with the length of the JSON before the tensors."""

_BITS: Final = {"f": "FP", "i": "INT", "u": "UINT"}
_KINDS: Final = {"FP": "f", "INT": "i", "UINT": "u"}
_LENGTH: Final = struct.Struct("<I")
_BAD_INPUT: Final = 400


def media_type_of(datatype: str, shape: list[int]) -> str:
    """Return the media type of a part that is such a tensor."""
    return f"{TENSOR};{datatype};{','.join(map(str, shape))}"


def is_bf16(value: Any) -> bool:
    """Return whether a value is a part that is a tensor of BF16."""
    return isinstance(value, File) and value.media_type.startswith(f"{TENSOR};BF16;")


def array_of(numpy: Any, file: File, *, bf16_as_bits: bool = False) -> Any:
    """Return the array that a part is, of BF16 where that is asked as whole numbers with the same bits.

    Raise ValueError if it is not one.
    """
    _, datatype, lengths = file.media_type.split(";")
    data, shape = file.read(), tuple(int(n) for n in lengths.split(",") if n)
    if datatype == BYTES:
        elements = list(_elements(data))
        if len(elements) != math.prod(shape):
            raise ValueError(f"{len(elements)} elements of BYTES came for the shape {shape}")
        array = numpy.empty(len(elements), object)
        array[:] = elements
    elif datatype == "BF16" and bf16_as_bits:
        array = numpy.frombuffer(data, "<i2").copy()
    elif datatype == "BF16":
        array = _of_bf16(numpy, data)
    elif datatype == "BOOL":
        array = (
            numpy.frombuffer(data, numpy.uint8) != 0
        )  # a byte that is neither 0 nor 1 is not a bool to NumPy
    else:
        kind, size = _KINDS[datatype.rstrip("0123456789")], SIZES[datatype]
        array = numpy.frombuffer(data, f"<{kind}{size}").copy()
    return array.reshape(shape)


def _elements(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack(data[at:start].ljust(_LENGTH.size, b"\xff"))[0]
        if at > len(data):
            raise ValueError("the last element of BYTES is cut off")
        yield data[start:at]


def _of_bf16(numpy: Any, data: bytes) -> Any:
    """Return values of 16 bits as ml_dtypes has them, or where it is not installed, the same values in 32 bits."""
    try:
        kind = importlib.import_module("ml_dtypes").bfloat16
    except ImportError:
        return (numpy.frombuffer(data, "<u2").astype(numpy.uint32) << 16).view(numpy.float32)
    return numpy.frombuffer(data, kind).copy()


def answer(value: Any, wanted: Mapping[str, Any], max_bytes: int) -> bytes:
    """Return the answer with the tensors of a value, and behind it its media type and the length of that.

    `wanted` has what the answer begins with, the names of the outputs or None for all, and whether they are binary.

    Raises:
        Refusal: the value is none of tensors, has none of a name that is wanted, or is too large.
    """
    found = _named(value)
    order = wanted["outputs"] or [[name, wanted["binary"]] for name in found]
    described, pieces = [], [b""]
    for name, is_binary in order:
        if name not in found:
            text = f"the function returns no output {name!r}, it returns {', '.join(map(repr, found))}"
            raise Refusal(text, _BAD_INPUT)
        tensor, data = _described(name, found[name], is_binary=is_binary)
        described.append(tensor)
        pieces.append(data)
    head = {**wanted["head"], "outputs": described}
    try:
        pieces[0] = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        text = "an output holds NaN or Infinity, which JSON does not have: ask for it as binary data"
        raise Refusal(text, _BAD_INPUT) from None
    if (size := sum(map(len, pieces))) > max_bytes:
        raise Refusal(
            f"the outputs are {size} bytes, over the server's limit of {max_bytes} (max_result_bytes): return less"
        )
    is_json = all("data" in each for each in described)
    kind = b"application/json" if is_json else f"{OCTETS}; {HEADER}={len(pieces[0])}".encode()
    return b"".join((*pieces, kind, bytes((len(kind),))))


def text(value: Any, wanted: Mapping[str, Any], max_bytes: int) -> str:
    """Return such an answer as the text that it is as an item of a stream, whose items are JSON."""
    return base64.b64encode(answer(value, wanted, max_bytes)).decode()


def _named(value: Any) -> dict[str, Any]:
    """Return the outputs of a value by their names: of an object its own, of a tuple numbers, else `output`."""
    if isinstance(value, tuple):
        return {f"output_{number}": each for number, each in enumerate(value)}
    if isinstance(value, Mapping):
        return {str(name): each for name, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if hasattr(type(value), "model_fields"):
        return {name: getattr(value, name) for name in type(value).model_fields}
    return {"output": value}


def _described(name: str, value: Any, *, is_binary: bool) -> tuple[dict[str, Any], bytes]:
    """Return what the answer says of a tensor, and the bytes that it has behind that."""
    datatype, array = _typed(name, value)
    tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
    if not is_binary:
        return {**tensor, "data": _in_json(name, datatype, array)}, b""
    if datatype == BYTES:
        texts = [_bytes_of(name, each) for each in array.ravel().tolist()]
        data = b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))
    else:
        data = array.tobytes()
    return {**tensor, "parameters": {"binary_data_size": len(data)}}, data


def _typed(name: str, value: Any) -> tuple[str, Any]:
    """Return the protocol's name of the type of an array's elements, and the array with the lowest byte first."""
    if hasattr(value, "detach"):  # a tensor of torch
        value = value.detach().cpu().contiguous()
        if str(value.dtype) == "torch.bfloat16":
            return "BF16", value.view(importlib.import_module("torch").int16).numpy()
        value = value.numpy()
    numpy = importlib.import_module("numpy")
    try:
        array = numpy.asarray(value)
        if array.dtype.kind in "SU" and not isinstance(value, numpy.ndarray):
            array = numpy.asarray(value, object)  # else without the zeros at the end of bytes
    except ValueError as error:
        raise Refusal(f"the output {name!r} is not a tensor: {error}") from None
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b":
        return "BOOL", array
    if kind in "OSU":
        return BYTES, array
    if array.dtype.name == "bfloat16":
        return "BF16", array
    if (datatype := f"{_BITS.get(kind)}{8 * size}") not in SIZES:
        raise Refusal(
            f"the output {name!r} is of {array.dtype}, and a tensor of {', '.join(SIZES)} or BYTES is needed"
        )
    return datatype, array.astype(array.dtype.newbyteorder("<"), copy=False)


def _bytes_of(name: str, element: Any) -> bytes:
    if isinstance(element, str):
        return element.encode("utf-8", "surrogatepass")
    if not isinstance(element, bytes):
        raise Refusal(
            f"the output {name!r} has an element of type {type(element).__name__}: bytes or text is needed"
        )
    return element


def _in_json(name: str, datatype: str, array: Any) -> list[Any]:
    if datatype == "BF16":
        raise Refusal(
            f"the output {name!r} is of BF16, which JSON does not have: ask for it as binary data", _BAD_INPUT
        )
    values: list[Any] = array.ravel().tolist()
    if datatype != BYTES:
        return values
    try:
        return [_bytes_of(name, each).decode() for each in values]
    except UnicodeDecodeError:
        text = f"the output {name!r} has bytes that are not text: ask for it as binary data"
        raise Refusal(text, _BAD_INPUT) from None
