"""Workers' logs as they grow."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Self

from openlaunch.client.effects import Response
from openlaunch.client.retry import TransportFailure
from openlaunch.client.transport import AsyncByteStream, ByteStream
from openlaunch.errors import StreamInterrupted
from openlaunch.wire.sse import SSEParser


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a worker wrote; `worker` is the short id by which its endpoint's logs tell workers apart."""

    worker: str
    line: str

    def __str__(self) -> str:
        return f"{self.worker} {self.line}"


class LogReader:
    """Turns a stream's bytes into lines, and knows whether it has come to its end."""

    def __init__(self) -> None:
        self._parser = SSEParser()
        self._ended = False

    def feed(self, piece: bytes) -> Iterator[LogLine]:
        """The lines that are complete with this piece.

        Raises:
            StreamInterrupted: what came is no stream of log lines.

        """
        try:
            for event in self._parser.feed(piece):
                if event.name == "end":
                    self._ended = True
                elif event.name == "message":
                    document = json.loads(event.data)
                    yield LogLine(document["worker"], document["line"])
        except (ValueError, KeyError, TypeError) as error:
            raise StreamInterrupted(f"the stream of log lines has something else: {error!r}") from error

    def finish(self, reason: object = "the connection was closed") -> None:
        """The bytes have come to an end.

        Raises:
            StreamInterrupted: before the stream's own end.

        """
        if not self._ended:
            raise StreamInterrupted(f"the stream of log lines was cut: {reason}")


class LogStream:
    """Log lines as they come: iterate over it, once. It ends with the endpoint, or with the server.

    Leave it early with `close()`, or use it in a `with` statement.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._lines = self._read()

    @classmethod
    def of(cls, _: Any, response: Response) -> Self:
        """The lines of an answer."""
        return cls(response.stream)

    def __iter__(self) -> Iterator[LogLine]:
        return self

    def __next__(self) -> LogLine:
        """The next line; waits for it.

        Raises:
            StreamInterrupted: the connection was cut.

        """
        return next(self._lines)

    def _read(self) -> Iterator[LogLine]:
        reader = LogReader()
        try:
            for piece in self._stream:
                yield from reader.feed(piece)
            reader.finish()
        except TransportFailure as failure:
            reader.finish(failure)
        finally:
            self._stream.close()

    def close(self) -> None:
        """Free the connection; harmless when called twice."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncLogStream:
    """The same for `async for` and `async with`."""

    def __init__(self, stream: AsyncByteStream) -> None:
        self._stream = stream
        self._lines = self._read()

    @classmethod
    def of(cls, _: Any, response: Response) -> Self:
        """The lines of an answer."""
        return cls(response.stream)

    def __aiter__(self) -> AsyncIterator[LogLine]:
        return self

    async def __anext__(self) -> LogLine:
        """The next line.

        Raises:
            StreamInterrupted: the connection was cut.

        """
        return await anext(self._lines)

    async def _read(self) -> AsyncIterator[LogLine]:
        reader = LogReader()
        try:
            async for piece in self._stream:
                for line in reader.feed(piece):
                    yield line
            reader.finish()
        except TransportFailure as failure:
            reader.finish(failure)
        finally:
            await self._stream.close()

    async def close(self) -> None:
        """Free the connection; harmless when called twice."""
        await self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
