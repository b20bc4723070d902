"""A language model's answer as it comes."""

import json
from collections.abc import Iterator
from typing import Any, Self

from openlaunch.client.effects import Response
from openlaunch.client.immediate import as_coroutine
from openlaunch.client.streams import AwaitableStream, Reading, Stream
from openlaunch.errors import StreamInterrupted
from openlaunch.wire.sse import SSEParser

_DONE = "[DONE]"


class ChatReader:
    """Turns a stream's bytes into the texts of an answer, and knows whether it has come to its end."""

    def __init__(self) -> None:
        self._parser = SSEParser()
        self._ended = False

    def feed(self, piece: bytes) -> Iterator[str]:
        """Yield the texts that are complete with this piece.

        Raises StreamInterrupted when the engine has failed, or what came is not a chat in pieces.
        """
        try:
            for event in self._parser.feed(piece):
                if event.data == _DONE:
                    self._ended = True
                else:
                    yield from _texts(json.loads(event.data))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise StreamInterrupted(f"the answer has what is not a piece of a chat: {error!r}") from error

    def finish(self, reason: object = "the connection was closed") -> None:
        """Note that the bytes have ended. Raises StreamInterrupted when the answer has not."""
        if not self._ended:
            raise StreamInterrupted(f"the answer was cut: {reason}")


def _texts(document: dict[str, Any]) -> Iterator[str]:
    if error := document.get("error"):
        raise StreamInterrupted(f"the model has failed: {error['message']}")
    for choice in document["choices"]:
        if text := choice["delta"].get("content"):
            yield text


class ChatStream(Stream[str]):
    """The texts of an answer as they come: iterate over it, once.

    Leave it early with `close()`, or use it in a `with` statement: the engine then stops.
    """

    @classmethod
    def of(cls, _: Any, response: Response) -> Self:
        return cls(_reading(response))


class AsyncChatStream(AwaitableStream[str]):
    """The same for `async for` and `async with`."""

    @classmethod
    def of(cls, _: Any, response: Response) -> Self:
        return cls(_reading(response))


def _reading(response: Response) -> Reading[str]:
    reader = ChatReader()
    return Reading(response, reader.feed, as_coroutine(reader.finish))
