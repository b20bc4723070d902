"""Workers' logs as they grow."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from openlaunch.client.effects import Response
from openlaunch.client.event_reader import reading
from openlaunch.client.streams import AwaitableStream, Reading, Stream
from openlaunch.wire.sse import Event


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


class LogStream(Stream[LogLine]):
    """Log lines as they come: iterate over it, once. It ends with the endpoint, or with the server.

    Leave it early with `close()`, or use it in a `with` statement.
    """

    @classmethod
    def of(cls, _: Any, response: Response) -> Self:
        return cls(_reading(response))


class AsyncLogStream(AwaitableStream[LogLine]):
    """Log lines as they come, for `async for` and `async with`; see `LogStream`."""

    @classmethod
    def of(cls, _: Any, response: Response) -> Self:
        return cls(_reading(response))


def _reading(response: Response) -> Reading[LogLine]:
    return reading(response, "the stream of log lines", _items)


def _items(event: Event) -> Iterable[LogLine] | None:
    if event.name == "end":
        return None
    return [_line(json.loads(event.data))] if event.name == "message" else []


def _line(document: dict[str, str]) -> LogLine:
    known = ("worker", "line", "at", "level")
    return LogLine(**{name: document[name] for name in known if name in document})
