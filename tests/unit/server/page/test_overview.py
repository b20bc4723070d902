"""What pages of one endpoint share."""

import asyncio
from types import SimpleNamespace

from openlaunch.server.page.overview import Overviews
from openlaunch.wire.metrics import MetricsRange


class Counted(Overviews):
    """Counts how many answers are made."""

    def __init__(self):
        super().__init__(None)
        self.made = 0

    async def _make(self, endpoint, user, wanted, after):
        self.made += 1
        return b"%d" % self.made


def test_pages_that_ask_for_the_same_share_an_answer_until_the_endpoint_changes():
    before, after = SimpleNamespace(id="end_1"), SimpleNamespace(id="end_1")

    async def ask():
        overviews = Counted()

        def of(endpoint, at=1.0, wanted=MetricsRange.HOUR):
            return overviews.of(endpoint, None, wanted, at)

        assert set(await asyncio.gather(*(of(before) for _ in range(50)))) == {b"1"}
        assert await of(before, at=2.0) == b"2"
        assert await of(before, wanted=MetricsRange.DAY) == b"3"
        assert await of(after) == await of(after) == b"4"

    asyncio.run(ask())
