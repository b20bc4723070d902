"""Requests of the Open Inference Protocol: where their tensors are, whose bytes are not read here."""

import math
import struct
from collections.abc import Mapping
from itertools import chain
from typing import Any, NamedTuple

from pydantic import ValidationError

from openlaunch.errors import BadRequest, PayloadTooLarge, Unprocessable
from openlaunch.server.prediction.forms import Form, Part
from openlaunch.server.prediction.inputs import parse_json
from openlaunch.server.prediction.signatures import Signature, Tensor
from openlaunch.wire.inference import InferInput, InferRequest
from openlaunch.wire.misfits import said
from openlaunch_worker.files import OCTETS
from openlaunch_worker.frames import Body
from openlaunch_worker.tensors import BYTES, SIZES, media_type_of

BINARY_OUTPUT = "binary_data_output"
TIMEOUT = "timeout"
MICROSECONDS = 1_000_000

LAYOUTS = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP64": "d",
}
"""How the elements of `data` are written as bytes."""


class Inference(NamedTuple):
    """What a request asks for: the args with their tensors, and the bytes in which those are."""

    form: Form
    body: Body | None
    """The tensors, where they were written as JSON; None: they are in the body that came."""
    timeout: float | None


def read_inference(
    body: Body, head_size: int, signature: Signature, head: Mapping[str, str], limit: int
) -> Inference:
    """Read a request whose first `head_size` bytes are JSON, and behind which the binary tensors are.

    `head` is what its answer begins with.

    Raises:
        BadRequest: it is not such a request, or has other bytes than it says.
        Unprocessable: a tensor is not one that the function takes.
        PayloadTooLarge: those that are JSON make it more than `limit` bytes.
    """
    asked = _request(parse_json(body if head_size == len(body) else bytes(body[:head_size])))
    if asked.id is not None:
        head = {**head, "id": asked.id}
    parameters = dict(asked.parameters)
    reserved = {BINARY_OUTPUT, TIMEOUT} - signature.arguments
    given = {name: parameters.pop(name) for name in reserved if name in parameters}
    wanted = {
        "head": head,
        "outputs": _wanted(asked, is_binary=given.get(BINARY_OUTPUT) is True),
        "binary": given.get(BINARY_OUTPUT) is True,
    }
    form = Form(parameters, [], wanted)
    written = _place(asked, body, head_size, signature, form)
    if written is not None and len(written) > limit:
        raise PayloadTooLarge(
            f"the tensors are {len(written)} bytes as binary data, the limit is {limit} bytes"
        )
    return Inference(form, written, _timeout(given.get(TIMEOUT)))


def _request(document: Any) -> InferRequest:
    try:
        return InferRequest.model_validate(document)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        place = ".".join(map(str, wrong["loc"])) or "the request"
        shown = (
            repr(wrong["input"])[:80]
            if isinstance(wrong["input"], str | int | float)
            else type(wrong["input"]).__name__
        )
        text = f"{place}: {said(wrong)}, and {shown} was given"
        raise BadRequest(text, code="invalid_tensor") from None


def _timeout(given: object) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
        raise _bad(f"the parameter {TIMEOUT} is {given!r}: a number of microseconds above 0 is needed")
    return given / MICROSECONDS


def _wanted(asked: InferRequest, *, is_binary: bool) -> list[tuple[str, bool]] | None:
    names = [each.name for each in asked.outputs]
    if (twice := _twice(names)) is not None:
        raise _bad(f"the output {twice!r} is asked for twice")
    return [
        (each.name, is_binary if each.parameters.binary_data is None else each.parameters.binary_data)
        for each in asked.outputs
    ] or None


def _place(asked: InferRequest, body: Body, head_size: int, signature: Signature, form: Form) -> Body | None:
    """Put where each tensor is into the form; return the bytes of those that are JSON, if there are some."""
    names = [each.name for each in asked.inputs]
    if (twice := _twice([*names, *form.args])) is not None:
        raise _bad(f"{twice!r} is given twice, as an input or a parameter")
    at, end = head_size, len(body)
    written: list[tuple[Tensor, InferInput, bytes]] = []
    for given in asked.inputs:
        tensor = signature.inputs.get(given.name)
        if tensor is None:
            raise _misfit(
                given.name, f"the function takes no such tensor, it takes {', '.join(signature.inputs)}"
            )
        tensor.check(given)
        size = given.parameters.binary_data_size
        if (size is None) == (given.data is None):
            which = "neither is" if size is None else "both are"
            raise _misfit(given.name, f"give data or binary_data_size: {which} given", BadRequest)
        if size is None:
            written.append((tensor, given, packed(given)))
            continue
        _check_size(given, size)
        if size > end - at:
            text = f"its {size} bytes are announced, and {end - at} are left behind the JSON of {head_size} bytes"
            raise _misfit(given.name, text, BadRequest)
        _add(form, tensor, given, at, at + size, body)
        at += size
    if at < end:
        raise _bad(
            f"{end - at} bytes are left behind the last tensor: the inputs announce {at - head_size} together"
        )
    if not written:
        return None
    whole = bytearray() if at == head_size else bytearray(body)
    for tensor, given, data in written:
        start = len(whole)
        whole += data
        _add(form, tensor, given, start, len(whole), whole)
    return whole


def _check_size(given: InferInput, size: int) -> None:
    if given.datatype != BYTES and (needed := math.prod(given.shape) * SIZES[given.datatype]) != size:
        text = f"{given.datatype} of shape {given.shape} is {needed} bytes, and binary_data_size is {size}"
        raise _misfit(given.name, text, BadRequest)


def _add(form: Form, tensor: Tensor, given: InferInput, start: int, end: int, data: Body) -> None:
    media_type = media_type_of(given.datatype, given.shape)
    if tensor.is_file:
        media_type, length = OCTETS, int.from_bytes(data[start : start + 4], "little")
        start += 4
        if length != end - start:
            text = (
                f"one element of BYTES is needed: it says that it has {length} bytes, and {end - start} came"
            )
            raise _misfit(given.name, text, BadRequest)
    form.args[given.name] = ""
    form.files.append(([given.name], Part("", start, end, media_type, None)))


def packed(given: InferInput) -> bytes:
    """Return the elements that an input has as JSON, nested or flat, in the protocol's binary form."""
    values = _flat(given)
    if len(values) != (needed := math.prod(given.shape)):
        raise _misfit(
            given.name, f"shape {given.shape} is {needed} elements, and data has {len(values)}", BadRequest
        )
    if given.datatype == "BF16":
        raise _misfit(given.name, "BF16 has no form in JSON: send it as binary data", BadRequest)
    kinds = set(map(type, values))
    if given.datatype == BYTES and kinds <= {str}:
        texts = [text.encode() for text in values]
        return b"".join(part for text in texts for part in (struct.pack("<I", len(text)), text))
    taken = {bool} if given.datatype == "BOOL" else {int, float} if given.datatype.startswith("FP") else {int}
    if given.datatype != BYTES and kinds <= taken:
        try:
            return struct.pack(f"<{len(values)}{LAYOUTS[given.datatype]}", *values)
        except (struct.error, OverflowError) as error:
            raise _misfit(
                given.name, f"data has a value that {given.datatype} does not have: {error}", BadRequest
            ) from None
    shown = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise _misfit(given.name, f"data has values of type {shown}, and {given.datatype} is needed", BadRequest)


def _flat(given: InferInput) -> list[Any]:
    data = given.data
    if not isinstance(data, list):
        return [data]
    if not any(isinstance(each, list) for each in data):
        return data
    level = [data]
    for axis, length in enumerate(given.shape):
        if any(not isinstance(each, list) or len(each) != length for each in level):
            text = f"data is nested otherwise than shape {given.shape} says, from its dimension {axis} on"
            raise _misfit(given.name, text, BadRequest)
        level = list(chain.from_iterable(level))
    return level


def _twice(names: list[str]) -> str | None:
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def _bad(text: str) -> BadRequest:
    return BadRequest(text, code="invalid_tensor")


def _misfit(
    name: str, text: str, kind: type[BadRequest | Unprocessable] = Unprocessable
) -> BadRequest | Unprocessable:
    return kind(f"{name[:200]!r}: {text}", code="invalid_tensor")
