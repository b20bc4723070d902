"""Answers that are made of a record's fields, and those that are made in pieces."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy import Connection
from starlette.types import Send

from openlaunch.store.base import Store

PIECE_CHARS = 64 * 1024
TURN_RECORDS = 10
READ_AT_ONCE = 10

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R")


class InPieces(StreamingResponse):
    """An answer that is written piece by piece. What gives the pieces ends with it, also when its client leaves.

    Else a file would stay open until the garbage collector comes by.
    """

    async def stream_response(self, send: Send) -> None:
        """Write the pieces."""
        try:
            await super().stream_response(send)
        finally:
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()


def shown(model: type[M], record: object, /, **more: Any) -> M:
    """Return the record as an answer: with its fields of the same names, in whose place `more` goes."""
    same = {name: getattr(record, name) for name in model.model_fields if hasattr(record, name)}
    return model.model_validate(same | more)


class InPages(AsyncIterable[R]):
    """The records of these ids, which `read` finds: a few at a time, because each can hold much."""

    def __init__(
        self,
        store: Store,
        ids: Sequence[str],
        read: Callable[[Connection, Sequence[str]], Iterable[R]],
        owner: str,
        at_once: int = READ_AT_ONCE,
    ) -> None:
        self._store, self._ids, self._read = store, ids, read
        self._owner, self._at_once = owner, at_once

    async def __aiter__(self) -> AsyncIterator[R]:
        for start in range(0, len(self._ids), self._at_once):
            ids = self._ids[start : start + self._at_once]
            for record in await self._store.read(partial(self._page, ids), self._owner):
                yield record

    def _page(self, ids: Sequence[str], conn: Connection) -> list[R]:
        return list(self._read(conn, ids))


def listed(
    name: str | tuple[str, ...],
    records: Iterable[R] | AsyncIterable[R],
    describe: Callable[[R], BaseModel],
    **more: object,
) -> InPieces:
    """Return an answer that lists the records under a name, or each of several, and has `more` in it.

    Others get their turn while a long one is written.
    """
    names = (name,) if isinstance(name, str) else name

    async def written() -> AsyncIterator[str]:
        held = "{" + "".join(f"{json.dumps(key)}:{json.dumps(value)}," for key, value in more.items())
        for number, each in enumerate(names):
            held += f'{"," if number else ""}"{each}":['
            between = ""
            async for record in _each(records):
                held += between + describe(record).model_dump_json(by_alias=True)
                between = ","
                if len(held) > PIECE_CHARS:
                    yield held
                    held = ""
            held += "]"
        yield held + "}"

    return InPieces(written(), media_type="application/json")


async def _each(records: Iterable[R] | AsyncIterable[R]) -> AsyncIterator[R]:
    if isinstance(records, AsyncIterable):
        async for record in records:
            yield record
        return
    for number, record in enumerate(records):
        if number % TURN_RECORDS == 0:
            await asyncio.sleep(0)
        yield record


def with_text(pieces: AsyncIterator[str], **fields: str) -> InPieces:
    """Return an answer of these fields and `content`, a long text whose pieces are written one after another."""
    start = json.dumps({**fields, "content": ""}).removesuffix('"}')

    async def written() -> AsyncIterator[str]:
        yield start
        async for piece in pieces:
            yield json.dumps(piece, ensure_ascii=False)[1:-1]
        yield '"}'

    return InPieces(written(), media_type="application/json")


async def pieces_of(text: str) -> AsyncIterator[str]:
    """Give a text in pieces."""
    for start in range(0, len(text), PIECE_CHARS):
        yield text[start : start + PIECE_CHARS]
