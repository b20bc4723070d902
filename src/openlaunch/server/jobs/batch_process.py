"""The process that reads the inputs of one batch job: it parses a user's file, and checks what is in it."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from openlaunch.errors import APIError
from openlaunch.server.prediction.apart import Channel, connect
from openlaunch.server.prediction.inputs import PredictInput, check_body
from openlaunch.server.prediction.schemas import BundleSchemas
from openlaunch.server.queue.refusals import REFUSED_STATUS_CODE
from openlaunch.tasks.batch_input import BadRow, InputError, Row, rows
from openlaunch.tasks.states import failure

CHUNK_BYTES = 4 * 1024 * 1024
"""The most that a chunk of several inputs takes; one that is larger is a chunk alone."""
PIECE_SECONDS = 30
"""What one piece of the file, or one chunk of inputs, may take."""

Chunk = list[tuple[PredictInput, bytes | None]]
"""Inputs; beside each, the result of one that is refused."""

_REFUSED = PredictInput(b"")
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


def main() -> None:
    """Answer one order. None asks the server for the next piece; all else is a part of the answer."""
    channel = connect()
    order: Order = channel.receive()
    source = rows(_pieces(channel))
    try:
        if order.count is not None:
            channel.send(sum(1 for _ in islice(source, order.count)))
        else:
            _send_chunks(channel, source, order)
    except InputError as error:
        channel.send(error)


def _pieces(channel: Channel) -> Iterator[bytes]:
    while True:
        channel.send(None)
        piece = channel.receive()
        signal.alarm(PIECE_SECONDS)
        if not piece:
            return
        yield piece


def _send_chunks(channel: Channel, source: Iterator[Row], order: Order) -> None:
    schemas = BundleSchemas(json.loads(order.source), apart=True)
    wanted = islice(source, order.skip, None)
    for chunk in chunks(wanted, schemas, order):
        signal.alarm(0)  # the server may take its time
        channel.send(chunk)
        if not chunk:
            return
        channel.receive()
        signal.alarm(PIECE_SECONDS)


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
        return _REFUSED, row.reason
    pickled = order.pickled and row != "{}"
    body = (row.removesuffix("}") + ', "return_pickled": true}' if pickled else row).encode()
    if len(body) > order.max_bytes:
        return _REFUSED, f"the input has {len(body)} bytes, {order.max_bytes} are allowed"
    try:
        return check_body(body, schemas), None
    except APIError as error:
        details = "; ".join(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors)
        return _REFUSED, f"{error.message}: {details}" if details else error.message


if __name__ == "__main__":
    main()
