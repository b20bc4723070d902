"""The process that reads one user's file, as an order says: what it imports is what the order needs."""

import signal
from collections.abc import Iterator, Sequence
from itertools import islice

from openlaunch.server.prediction.compute_process import Channel, connect
from openlaunch.tasks.batch_input import InputError

PIECE_SECONDS = 30
"""What one piece of the file, or one chunk of what is in it, may take."""


def main() -> None:
    """Answer one order. None asks the server for the next piece; all else is a part of the answer."""
    channel = connect()
    order = channel.receive()
    source = order.read(_pieces(channel))
    try:
        if order.count is not None:
            channel.send(sum(1 for _ in islice(source, order.count)))
        else:
            _send_chunks(channel, order.chunks(islice(source, order.skip, None)))
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


def _send_chunks(channel: Channel, made: Iterator[Sequence[object]]) -> None:
    for chunk in made:
        signal.alarm(0)  # the server may take its time
        channel.send(chunk)
        if not chunk:
            return
        channel.receive()
        signal.alarm(PIECE_SECONDS)


if __name__ == "__main__":
    main()
