"""The Open Inference Protocol, version 2, on the wire (`/v2/models`)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_TENSORS = 1000
MAX_DIMENSIONS = 32
"""NumPy 1 has no more."""

MAX_LENGTH = 2**40
"""Limit on the length of one dimension, also where another one is 0."""

# fmt: off
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BF16",
    "BYTES",
]
# fmt: on
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_STRICT = ConfigDict(strict=True, extra="forbid")


class InputParameters(BaseModel):
    """What a request says of an input beside its type and shape."""

    model_config = _STRICT
    binary_data_size: int | None = Field(default=None, ge=0)


class InferInput(BaseModel):
    """One tensor of a request: its elements are in `data`, or behind the JSON."""

    model_config = _STRICT
    name: _Name
    datatype: Datatype
    shape: list[Annotated[int, Field(ge=0, le=MAX_LENGTH)]] = Field(max_length=MAX_DIMENSIONS)
    parameters: InputParameters = InputParameters()
    data: Any = Field(default=None, repr=False)


class OutputParameters(BaseModel):
    """How a request wants an output."""

    model_config = _STRICT
    binary_data: bool | None = None


class InferOutput(BaseModel):
    """One output that a request wants."""

    model_config = _STRICT
    name: _Name
    parameters: OutputParameters = OutputParameters()


class InferRequest(BaseModel):
    """POST /v2/models/{name}/infer."""

    model_config = _STRICT
    id: str | None = Field(default=None, max_length=1000)
    parameters: dict[str, str | bool | int | float | None] = Field(
        default={},
        description="Arguments other than tensors; `timeout` in microseconds, and `binary_data_output`.",
        repr=False,
    )
    inputs: list[InferInput] = Field(max_length=MAX_TENSORS)
    outputs: list[InferOutput] = Field(default=[], max_length=MAX_TENSORS)


class TensorMetadata(BaseModel):
    """What is known of a tensor; -1 is any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """GET /v2/models/{name}."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
