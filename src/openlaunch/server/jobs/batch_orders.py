"""How the inputs of one batch job are read: a user's file is parsed, and what is in it is checked."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from openlaunch.errors import APIError
from openlaunch.server.prediction.inputs import PredictInput, check_body
from openlaunch.server.prediction.schemas import BundleSchemas
from openlaunch.server.queue.refusals import REFUSED_STATUS_CODE
from openlaunch.tasks.batch_input import BadRow, Row, rows
from openlaunch.tasks.states import failure

CHUNK_BYTES = 4 * 1024 * 1024
"""The most that a chunk of several inputs takes; one that is larger is a chunk alone."""

Chunk = list[tuple[PredictInput, bytes | None]]
"""Inputs; beside each, the result of one that is refused."""

REFUSED = PredictInput(b"")
"""Stands among the inputs for one that is refused."""


@dataclass(frozen=True)
class Order:
    """What is asked for: the number of inputs, up to `count`; or, without it, the inputs, up to `most` at once."""

    count: int | None = None
    source: bytes = b"{}"
    pickled: bool = False
    skip: int = 0
    most: int = 0
    max_bytes: int = 0
    """The largest input; a larger one is refused."""

    def read(self, pieces: Iterator[bytes]) -> Iterator[Row]:
        """Yield the inputs of a file."""
        return rows(pieces)

    def chunks(self, wanted: Iterator[Row]) -> Iterator[Chunk]:
        """Check inputs, and put them together."""
        return chunks(wanted, BundleSchemas(json.loads(self.source), apart=True), self)


def chunks(source: Iterator[Row], schemas: BundleSchemas, order: Order) -> Iterator[Chunk]:
    """Yield chunks of inputs, and an empty one at the end."""
    chunk: Chunk = []
    size = 0
    for row in source:
        predict_input, result = _input(row, schemas, order)
        taken = len(predict_input.body) + len(result or b"")
        if chunk and size + taken > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append((predict_input, result))
        size += taken
        if len(chunk) == order.most:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
    yield []


def _input(row: Row, schemas: BundleSchemas, order: Order) -> tuple[PredictInput, bytes | None]:
    predict_input, refusal = _checked(row, schemas, order)
    return predict_input, None if refusal is None else failure(refusal, REFUSED_STATUS_CODE)


def _checked(row: Row, schemas: BundleSchemas, order: Order) -> tuple[PredictInput, str | None]:
    """Return an input, or the reason for which it is refused."""
    if isinstance(row, BadRow):
        return REFUSED, row.reason
    pickled = order.pickled and row != "{}"
    body = (row.removesuffix("}") + ', "return_pickled": true}' if pickled else row).encode()
    if len(body) > order.max_bytes:
        return REFUSED, f"the input has {len(body)} bytes, {order.max_bytes} are allowed"
    try:
        return check_body(body, schemas), None
    except APIError as error:
        details = "; ".join(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors)
        return REFUSED, f"{error.message}: {details}" if details else error.message
