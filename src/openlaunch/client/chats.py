"""A language model's answer as it comes."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Self

from openlaunch.client.effects import Response
from openlaunch.client.event_reader import reading
from openlaunch.client.streams import AwaitableStream, Reading, Stream
from openlaunch.errors import StreamInterrupted
from openlaunch.wire.sse import Event

_DONE = "[DONE]"


class ChatStream(Stream[str]):
    """The texts of an answer as they come: iterate over it, once.

    Leave it early with `close()`, or use it in a `with` statement: the engine then stops.
    """

    @classmethod
    def of(cls, _: Any, response: Response) -> Self:
        return cls(_reading(response))


class AsyncChatStream(AwaitableStream[str]):
    """The texts of an answer as they come, for `async for` and `async with`; see `ChatStream`."""

    @classmethod
    def of(cls, _: Any, response: Response) -> Self:
        return cls(_reading(response))


def _reading(response: Response) -> Reading[str]:
    return reading(response, "the answer of a chat", _items)


def _items(event: Event) -> Iterable[str] | None:
    return None if event.data == _DONE else _texts(json.loads(event.data))


def _texts(document: dict[str, Any]) -> Iterator[str]:
    if error := document.get("error"):
        raise StreamInterrupted(f"the model has failed: {error['message']}")
    for choice in document["choices"]:
        if text := choice["delta"].get("content"):
            yield text
