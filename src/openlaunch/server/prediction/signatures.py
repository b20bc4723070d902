"""The tensors that a bundle's function takes and returns, as the Open Inference Protocol names them."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from openlaunch.errors import Unprocessable
from openlaunch.wire.bundles import BINARY, DERIVED
from openlaunch.wire.inference import InferInput, TensorMetadata
from openlaunch_worker.tensors import BYTES

ANY = "ANY"
"""What metadata says of an array that may have any type."""

_ALIASES = {
    "BOOL": ("bool", "bool_", "?"),
    "INT8": ("int8", "byte", "i1"),
    "INT16": ("int16", "short", "i2"),
    "INT32": ("int32", "intc", "i4"),
    "INT64": ("int64", "int", "int_", "intp", "i8"),
    "UINT8": ("uint8", "ubyte", "u1"),
    "UINT16": ("uint16", "ushort", "u2"),
    "UINT32": ("uint32", "uintc", "u4"),
    "UINT64": ("uint64", "uint", "uintp", "u8"),
    "FP16": ("float16", "half", "f2"),
    "FP32": ("float32", "single", "f4"),
    "FP64": ("float64", "double", "float", "f8"),
    "BF16": ("bfloat16",),
    BYTES: ("object", "object_", "O"),
}
_DATATYPES = {alias: datatype for datatype, aliases in _ALIASES.items() for alias in aliases}
"""The protocol's names of what NumPy calls a type."""

_PLAIN = {"integer": "INT64", "number": "FP64", "boolean": "BOOL", "string": BYTES}


class Tensor(NamedTuple):
    """One input or output: its type, None for any, and its shape, in which None is any length."""

    name: str
    datatype: str | None
    shape: tuple[int | None, ...] | None
    is_file: bool = False
    """Whether it is one element of BYTES, of which the function gets the bytes."""

    @property
    def metadata(self) -> TensorMetadata:
        """What the protocol says of it."""
        lengths = (None,) if self.shape is None else self.shape
        shape = [-1 if length is None else length for length in lengths]
        return TensorMetadata(name=self.name, datatype=self.datatype or ANY, shape=shape)

    def check(self, given: InferInput) -> None:
        """Raise Unprocessable where a tensor that was given is another one."""
        shape = self.shape
        fits = shape is None or (
            len(shape) == len(given.shape)
            and all(n in (None, length) for n, length in zip(shape, given.shape, strict=True))
        )
        if (
            self.datatype not in (None, given.datatype)
            or not fits
            or (self.is_file and given.shape not in ([], [1]))
        ):
            known = self.metadata
            needed = f"{known.datatype}" + ("" if shape is None else f" and shape {known.shape}")
            text = f"a tensor of {needed} is needed, and one of {given.datatype} and shape {given.shape} came"
            raise Unprocessable(f"{self.name!r}: {text}", code="invalid_tensor")


class Signature(NamedTuple):
    """The tensors that a function takes and returns, by its annotations."""

    inputs: dict[str, Tensor]
    outputs: list[Tensor]
    arguments: frozenset[str]
    """The names of all that it takes, tensors and others."""


def signature_of(schemas: Mapping[str, Any]) -> Signature | None:
    """Return the tensors of a bundle's function; None where its annotations name no array."""
    request, response = schemas.get("RequestSchema"), schemas.get("ResponseSchema")
    if not isinstance(request, dict) or request.get(DERIVED) is not True:
        return None
    properties = request.get("properties", {})
    inputs = {name: found for name, of in properties.items() if (found := _input(name, of)) is not None}
    if all(tensor.is_file for tensor in inputs.values()):
        return None
    outputs = list(_outputs(response if isinstance(response, dict) else {}))
    return Signature(inputs, outputs, frozenset(properties))


def _input(name: str, schema: Any) -> Tensor | None:
    for each in (schema, *schema.get("anyOf", ())):
        if (kind := each.get(BINARY)) in ("array", "tensor"):
            return _array(name, each)
        if kind is not None:
            return Tensor(name, BYTES, (1,), is_file=True)
    return None


def _array(name: str, schema: Mapping[str, Any]) -> Tensor:
    dtype, shape = schema.get("x-openlaunch-dtype"), schema.get("x-openlaunch-shape")
    known = None if dtype is None else _DATATYPES.get(str(dtype).lstrip("<="))
    return Tensor(name, known, None if shape is None else tuple(shape))


def _outputs(schema: Mapping[str, Any]) -> Iterator[Tensor]:
    """Yield the outputs under the names that `openlaunch_worker.tensors` gives them."""
    named: Mapping[str, Any] = schema.get("properties") or {}
    if not named:
        items = schema.get("prefixItems")
        named = {"output": schema} if items is None else {f"output_{n}": each for n, each in enumerate(items)}
    for name, of in named.items():
        if of.get(BINARY) in ("array", "tensor"):
            yield _array(name, of)
        elif (plain := _PLAIN.get(str(of.get("type")))) is not None and BINARY not in of:
            yield Tensor(name, plain, ())
