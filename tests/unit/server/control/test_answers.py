"""Lists are read and written a part at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from pydantic import BaseModel

from openlaunch.server.control.answers import InPages, listed


class Number(BaseModel):
    """What is listed."""

    value: int


class Store:
    """Runs what reads at once, and knows the ids that it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []

    async def read(self, op: Callable[[Any], list[Number]], owner: str) -> list[Number]:
        return op(self)

    def find(self, conn: Any, ids: Sequence[str]) -> list[Number]:
        self.asked.append(ids)
        return [Number(value=int(each)) for each in ids]


def pages(store: Store, number: int) -> InPages[Number]:
    ids = [str(n) for n in range(number)]
    return InPages(store, ids, store.find, "ada", at_once=2)  # type: ignore[arg-type]


def test_records_are_read_a_few_at_a_time_when_they_are_wanted():
    async def main() -> None:
        store = Store()
        records: AsyncIterator[Number] = aiter(pages(store, 5))
        assert [(await anext(records)).value for _ in range(3)] == [0, 1, 2]
        assert store.asked == [["0", "1"], ["2", "3"]]
        assert [record.value async for record in records] == [3, 4]

    asyncio.run(main())


def test_a_list_under_two_names_is_read_for_each():
    async def main() -> bytes:
        answer = listed(("files", "data"), pages(Store(), 3), lambda number: number, more=True)
        return "".join([str(piece) async for piece in answer.body_iterator]).encode()

    items = b'[{"value":0},{"value":1},{"value":2}]'
    assert asyncio.run(main()) == b'{"more":true,"files":' + items + b',"data":' + items + b"}"
