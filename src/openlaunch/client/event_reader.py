"""Server-sent events of an answer that can't be resumed: its items, and whether it came to its end."""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from openlaunch.client.effects import Response
from openlaunch.client.immediate import as_coroutine
from openlaunch.client.streams import Reading
from openlaunch.errors import StreamInterrupted
from openlaunch.wire.sse import Event, SSEParser

T = TypeVar("T")


def reading(response: Response, what: str, items: Callable[[Event], Iterable[T] | None]) -> Reading[T]:
    """Read an answer's items.

    Args:
        response: the answer.
        what: it is, as errors say it.
        items: gives those of an event; None: it is the event by which the answer ends.
    """
    reader = _EventReader(what, items)
    return Reading(response, reader.feed, as_coroutine(reader.finish))


class _EventReader(Generic[T]):
    def __init__(self, what: str, items: Callable[[Event], Iterable[T] | None]) -> None:
        self._what, self._items = what, items
        self._parser = SSEParser()
        self._ended = False

    def feed(self, piece: bytes) -> Iterator[T]:
        try:
            for event in self._parser.feed(piece):
                found = self._items(event)
                if found is None:
                    self._ended = True
                else:
                    yield from found
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise StreamInterrupted(f"{self._what} has something else: {error!r}") from error

    def finish(self, reason: object) -> None:
        if not self._ended:
            raise StreamInterrupted(f"{self._what} was cut: {reason}")
