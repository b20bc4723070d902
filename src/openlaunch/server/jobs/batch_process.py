"""The process that reads the inputs of one batch job: it parses a user's file, and checks what is in it."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import orjson

from openlaunch.errors import APIError
from openlaunch.server.prediction.apart import Channel, connect
from openlaunch.server.prediction.inputs import PredictInput, check_document
from openlaunch.server.prediction.schemas import BundleSchemas
from openlaunch.server.queue.refusals import REFUSED_STATUS_CODE
from openlaunch.tasks.batch_input import BadRow, InputError, Row, rows
from openlaunch.tasks.states import failure

CHUNK_BYTES = 4 * 1024 * 1024
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
    schemas = BundleSchemas(orjson.loads(order.source), apart=True)
    wanted = islice(source, order.skip, None)
    while True:
        chunk = _next_chunk(wanted, schemas, order)
        signal.alarm(0)  # the server may take its time
        channel.send(chunk)
        if not chunk:
            return
        channel.receive()
        signal.alarm(PIECE_SECONDS)


def _next_chunk(source: Iterator[Row], schemas: BundleSchemas, order: Order) -> Chunk:
    chunk: Chunk = []
    size = 0
    for row in source:
        predict_input, refusal = _checked(row, schemas, order.pickled)
        chunk.append((predict_input, None if refusal is None else failure(refusal, REFUSED_STATUS_CODE)))
        size += len(predict_input.body)
        if len(chunk) == order.most or size > CHUNK_BYTES:
            break
    return chunk


def _checked(row: Row, schemas: BundleSchemas, pickled: bool) -> tuple[PredictInput, str | None]:
    """Return an input, or the reason for which it is refused."""
    if isinstance(row, BadRow):
        return _REFUSED, row.reason
    document = row | {"return_pickled": True} if pickled else row
    try:
        return check_document(document, orjson.dumps(document), schemas), None
    except APIError as error:
        details = "; ".join(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors)
        return _REFUSED, f"{error.message}: {details}" if details else error.message
    except TypeError as error:
        return _REFUSED, f"the input can't be sent: {error}"


if __name__ == "__main__":
    main()
