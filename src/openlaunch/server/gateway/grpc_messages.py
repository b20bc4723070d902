"""Messages of the Open Inference Protocol over gRPC, and what they are over HTTP.

Their classes are made of `inference.binpb`, which `make proto` compiles of `inference.proto`: unlike generated code,
that goes with each version of protobuf.
"""

import binascii
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from openlaunch.errors import BadRequest
from openlaunch.server.gateway.exchange import split_binary
from openlaunch.server.gateway.inference_exchange import headers_of
from openlaunch.server.prediction.tensors import LAYOUTS, MICROSECONDS, TIMEOUT
from openlaunch.wire.inference import MAX_DIMENSIONS, MAX_TENSORS
from openlaunch_worker.frames import Body
from openlaunch_worker.tensors import BYTES, HEADER

SERVICE = "inference.GRPCInferenceService"
INFER = "ModelInfer"
STREAM = "ModelStreamInfer"
FINAL = "triton_final_response"
EMPTY_END = "triton_enable_empty_final_response"
"""Parameters by which Triton's clients know where the answers to a request of a stream end."""

MAX_CONTENTS = 100_000
"""Elements of one request that are not in `raw_input_contents`, which are read one by one."""

HEAD_BYTES = 1024 * 1024
"""How much a message may have beside `raw_input_contents`: there, two bytes can be an object of a hundred."""

MAX_FIELDS = 4 * MAX_TENSORS
"""Fields of a message: each input, output, parameter and tensor is one."""

PIECE_BYTES = 1024 * 1024
"""How much of an item's base64 is read at a time: a multiple of four."""

_QUOTE = ord('"')
_RAW = 7
_RAW_OUTPUT, _INFER_RESPONSE = 6, 2
"""Numbers of the fields `raw_output_contents` and, in answers of a stream, `infer_response`."""

_MAX_SHIFT = 28

_CONTENTS = {
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "BOOL": "bool_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


class Method(NamedTuple):
    """The classes of a method's request and answer."""

    request: Any
    answer: Any


def _methods() -> dict[str, Method]:
    pool = descriptor_pool.DescriptorPool()
    data = Path(__file__).with_name("inference.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    made = message_factory.GetMessageClass
    methods = pool.FindServiceByName(SERVICE).methods
    return {each.name: Method(made(each.input_type), made(each.output_type)) for each in methods}


METHODS = _methods()


class Parsed(NamedTuple):
    """The message of a method without its `raw_input_contents`, and these, which are not copied."""

    request: Any
    tensors: list[memoryview]


def parsed(name: str, data: bytes) -> Parsed:
    """Take a method's message apart. Raise BadRequest where it is not one, or has too much beside its tensors."""
    beside, tensors = _split(data)
    if (size := sum(map(len, beside))) > HEAD_BYTES:
        text = (
            f"the message has {size} bytes beside raw_input_contents, and {HEAD_BYTES} are allowed: send the "
            "tensors there"
        )
        raise BadRequest(text, code="invalid_tensor")
    try:
        request = METHODS[name].request.FromString(b"".join(beside))
    except DecodeError as error:
        raise BadRequest(f"the message is not a {name} request: {error}", code="invalid_tensor") from None
    for each in getattr(request, "inputs", ()):
        if max(len(each.shape) - MAX_DIMENSIONS, len(each.parameters) - MAX_TENSORS) > 0:
            text = f"{each.name[:200]!r}: it has over {MAX_DIMENSIONS} dimensions or {MAX_TENSORS} parameters"
            raise BadRequest(f"{text}, which is the limit", code="invalid_tensor")
    return Parsed(request, tensors)


def _split(data: bytes) -> tuple[list[memoryview], list[memoryview]]:
    """Return the fields that are not in `raw_input_contents`, and what is; raise BadRequest where there are too many.

    What protobuf makes of a message can be a hundred times as large, and take minutes to walk through.
    """
    view, beside, tensors = memoryview(data), list[memoryview](), list[memoryview]()
    at, end = 0, len(data)
    for _ in range(MAX_FIELDS):
        if at == end:
            return beside, tensors
        start, (number, kind) = at, divmod(data[at], 8)
        length, at = _varint(data, at + 1)
        if kind != 2 or number > _RAW or at + length > end:
            raise BadRequest("the message is not a request of the protocol", code="invalid_tensor")
        at += length
        if number == _RAW:
            tensors.append(view[at - length : at])
        else:
            beside.append(view[start:at])
    if at == end:
        return beside, tensors
    raise BadRequest(f"the message has over {MAX_FIELDS} fields, which is the limit", code="invalid_tensor")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number, and where it ends; what is cut off or too large is longer than any message."""
    value = 0
    for shift in range(0, _MAX_SHIFT + 1, 7):
        if at == len(data):
            break
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    return len(data), at + 1


def body_of(asked: Parsed, seconds_left: float | None) -> tuple[dict[str, str], bytearray]:
    """Return the headers and the body of a ModelInfer request. Raise BadRequest where it is not one."""
    request, tensors = asked
    pieces: Sequence[bytes | memoryview] = tensors or list(_written(request))
    if len(pieces) != len(request.inputs):
        text = f"raw_input_contents has {len(pieces)} tensors, and there are {len(request.inputs)} inputs"
        raise BadRequest(text, code="invalid_tensor")
    if tensors and any(each.HasField("contents") for each in request.inputs):
        text = "an input has contents, and raw_input_contents is given: give all tensors in one way"
        raise BadRequest(text, code="invalid_tensor")
    parameters = _values(request.parameters)
    if seconds_left is not None:
        parameters.setdefault(TIMEOUT, seconds_left * MICROSECONDS)
    head = {
        "id": request.id or None,
        "parameters": {**parameters, "binary_data_output": True},
        "inputs": [
            {
                **_described(each),
                "parameters": {**_values(each.parameters), "binary_data_size": len(piece)},
            }
            for each, piece in zip(request.inputs, pieces, strict=True)
        ],
        "outputs": [{"name": each.name, "parameters": _values(each.parameters)} for each in request.outputs],
    }
    body = bytearray(json.dumps(head).encode())
    headers = {HEADER: str(len(body))}
    for piece in pieces:
        body += piece
    return headers, body


def _described(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        found[name] = None if kind is None else getattr(parameter, kind)
    return found


def _written(request: Any) -> Iterator[bytes]:
    """Yield the tensors of a request that has their elements one by one."""
    left = MAX_CONTENTS
    for tensor in request.inputs:
        field = _CONTENTS.get(tensor.datatype)
        values = [] if field is None else getattr(tensor.contents, field)
        left -= len(values)
        if left < 0:
            text = (
                f"the contents have over {MAX_CONTENTS} elements, which is the limit: send raw_input_contents"
            )
            raise BadRequest(text, code="invalid_tensor")
        if field == "bytes_contents":
            yield b"".join(part for text in values for part in (struct.pack("<I", len(text)), text))
            continue
        try:
            yield struct.pack(f"<{len(values)}{LAYOUTS.get(tensor.datatype, 'b')}", *values)
        except struct.error as error:
            text = (
                f"{tensor.name[:200]!r}: contents has a value that {tensor.datatype} does not have: {error}"
            )
            raise BadRequest(text, code="invalid_tensor") from None


def _decoded(text: memoryview) -> bytearray:
    """Return what base64 in a JSON text stands for. Raise ValueError if it is not such a text.

    It is read in pieces, because other threads wait while one is read.
    """
    if len(text) < 2 or text[0] != _QUOTE or text[-1] != _QUOTE:
        raise ValueError("it is not a text in JSON")
    inside, data = text[1:-1], bytearray()
    for at in range(0, len(inside), PIECE_BYTES):
        data += binascii.a2b_base64(inside[at : at + PIECE_BYTES], strict_mode=True)
    return data


class InferAnswer(NamedTuple):
    """The answer of ModelInfer: a message, and tensors that are not copied into it."""

    message: Any
    tensors: Sequence[memoryview] = ()

    def parts(self) -> Iterator[bytes | memoryview]:
        """Yield the parts of the whole message's bytes."""
        yield self.message.SerializeToString()
        for tensor in self.tensors:
            yield _prefix(_RAW_OUTPUT, len(tensor))
            yield tensor


def stream_item(item: memoryview) -> InferAnswer:
    """Return the answer that an item of a stream is; raise anything where it is not one."""
    tensors, media_type = split_binary(_decoded(item))
    return infer_answer(headers_of(media_type), tensors)


def stream_answer(found: InferAnswer, *, is_last: bool) -> bytes:
    """Return the answer of ModelStreamInfer that says whether a further one belongs to the same request."""
    found.message.parameters[FINAL].bool_param = is_last
    parts = list(found.parts())
    return b"".join([_prefix(_INFER_RESPONSE, sum(map(len, parts))), *parts])


def failed_answer(request: Any, text: str) -> Any:
    """Return the answer of ModelStreamInfer that says why a request of the stream has no further one."""
    return METHODS[STREAM].answer(error_message=text, infer_response={"id": request.id})


def wants_empty_end(request: Any) -> bool:
    """Take out of a request whether it wants an answer without tensors behind the last item of a stream."""
    if EMPTY_END not in request.parameters:
        return False
    wanted = request.parameters[EMPTY_END].bool_param
    del request.parameters[EMPTY_END]
    return bool(wanted)


def infer_answer(headers: Mapping[str, str], body: Body) -> InferAnswer:
    """Return the answer that an answer over HTTP is; raise anything where it is not one."""
    at = int(headers.get(HEADER, len(body)))
    if at > HEAD_BYTES:
        raise ValueError(f"{at} bytes beside the tensors")
    document = json.loads(bytes(body[:at]))
    if len(document["outputs"]) > MAX_TENSORS:
        raise ValueError("too many outputs")
    answer = METHODS["ModelInfer"].answer(
        model_name=document["model_name"], model_version=document["model_version"], id=document.get("id", "")
    )
    view, tensors = memoryview(body), []
    for each in document["outputs"]:
        answer.outputs.add(name=each["name"], datatype=each["datatype"], shape=each["shape"])
        end = at + each["parameters"]["binary_data_size"]
        if not at <= end <= len(body):  # or a few bytes would be copied again and again
            raise ValueError("an output that is not in the answer")
        tensors.append(view[at:end])
        at = end
    return InferAnswer(answer, tensors)


def _prefix(field: int, length: int) -> bytes:
    """Return what stands before bytes of this length that are a field of a message."""
    found = bytearray([field << 3 | 2])
    while length > 127:
        found.append(length & 127 | 128)
        length >>= 7
    found.append(length)
    return bytes(found)
