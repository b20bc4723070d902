"""Calls that workers make: what stands still is found, and the search takes little time."""

import asyncio
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from lanes import ENDPOINT, make_lane, submit
from server_links import FakeWorker, in_loop

from openlaunch.errors import Conflict
from openlaunch.server.dispatch.nesting import Nesting

ONE_WORKER = replace(ENDPOINT, spec=ENDPOINT.spec.model_copy(update={"max_workers": 1}))


@in_loop
async def test_a_circle_is_found_however_deep_it_is():
    nesting, lane = Nesting(), make_lane(endpoint=ONE_WORKER)
    FakeWorker("w", 1000).join(lane)
    running = submit(lane, *map(str, range(1000)))
    (last,) = submit(lane, "last")
    for parent, child in pairwise([*running, last]):
        nesting.begin(parent, child, lane)
    with pytest.raises(Conflict, match="would wait for ever"):
        await asyncio.wait_for(last.answer, 10)


@pytest.mark.parametrize("slots", [1000, 1001])
@in_loop
async def test_calls_that_wait_hold_nobody_up(slots):
    """Deep ones beside many others; with one slot more, there is one that moves."""
    nesting, lane = Nesting(), make_lane(1000, ONE_WORKER)
    FakeWorker("w", slots).join(lane)
    running = submit(lane, *map(str, range(slots)))
    waiting = submit(lane, *map(str, range(300)))
    for parent, child in pairwise(running[:1000]):
        nesting.begin(parent, child, lane)
    begun = time.process_time()
    for child in waiting:
        nesting.begin(running[999], child, lane)
    await asyncio.sleep(0.05)
    assert time.process_time() - begun < 0.3
    assert any(child.answer.done() for child in waiting) == (slots == 1000)
