"""Workers' logs as they grow."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from openlaunch.client.effects import Response
from openlaunch.client.immediate import as_coroutine
from openlaunch.client.streams import AwaitableStream, Reading, Stream
from openlaunch.errors import StreamInterrupted
from openlaunch.wire.sse import SSEParser


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a worker wrote; `worker` is the short id by which its endpoint's logs tell workers apart.

    `at` is when it was written, as ISO 8601 in UTC, and `level` such as WARNING; "" where it is not known.
    """

    worker: str
    line: str
    at: str = ""
    level: str = ""

    def __str__(self) -> str:
        return f"{self.worker} {self.line}"


class LogReader:
    """Turns a stream's bytes into lines, and knows whether it has come to its end."""

    def __init__(self) -> None:
        self._parser = SSEParser()
        self._ended = False

    def feed(self, piece: bytes) -> Iterator[LogLine]:
        """Yield the lines that are complete with this piece.

        Raises StreamInterrupted when what came is not a stream of log lines.
        """
        try:
            for event in self._parser.feed(piece):
                if event.name == "end":
                    self._ended = True
                elif event.name == "message":
                    document = json.loads(event.data)
                    known = ("worker", "line", "at", "level")
                    yield LogLine(**{name: document[name] for name in known if name in document})
        except (ValueError, KeyError, TypeError) as error:
            raise StreamInterrupted(f"the stream of log lines has something else: {error!r}") from error

    def finish(self, reason: object = "the connection was closed") -> None:
        """Note that the bytes have ended. Raises StreamInterrupted when the stream has not."""
        if not self._ended:
            raise StreamInterrupted(f"the stream of log lines was cut: {reason}")


class LogStream(Stream[LogLine]):
    """Log lines as they come: iterate over it, once. It ends with the endpoint, or with the server.

    Leave it early with `close()`, or use it in a `with` statement.
    """

    @classmethod
    def of(cls, _: Any, response: Response) -> Self:
        return cls(_reading(response))


class AsyncLogStream(AwaitableStream[LogLine]):
    """The same for `async for` and `async with`."""

    @classmethod
    def of(cls, _: Any, response: Response) -> Self:
        return cls(_reading(response))


def _reading(response: Response) -> Reading[LogLine]:
    reader = LogReader()
    return Reading(response, reader.feed, as_coroutine(reader.finish))
