"""Circles of calls over several servers: each server says what stands still there, and one alone ends one call."""

import asyncio
from dataclasses import replace

import pytest
from lanes import ENDPOINT, make_lane
from server_links import FakeWorker, in_loop

from openlaunch.server.cluster.messages import COLLECT_SECONDS, Messages
from openlaunch.server.dispatch.waits import Standing, Wait, Waits

ONE_WORKER = replace(ENDPOINT, spec=ENDPOINT.spec.model_copy(update={"max_workers": 1, "per_worker": 1}))
CALLS = {
    "one": [Standing("one-1", "a", (Wait("", "b", 1),))],
    "two": [Standing("two-1", "b", (Wait("", "a", 1),))],
}
TASKS = {
    "one": [Standing("task-1", "a", (Wait("task-2", "b"),))],
    "two": [Standing("task-2", "b", (Wait("task-3", "a"),))],
}
MOVING = {**CALLS, "two": [Standing("two-1", "b", (Wait("two-2", ""),))]}


class Server:
    """A server among others, whose messages reach them within the process."""

    def __init__(self, name, others, lanes):
        self.gateway, self.others = name, others
        others.append(self)
        self.messages = Messages(self)
        self.messages.others = 1
        self.waits = Waits(self.messages, lanes)
        self.messages.start()

    def listen(self, heard, gap):
        self.heard = heard

    async def send(self, texts):
        assert all(len(text) < 7900 for text in texts)
        for text in texts:
            for other in self.others:
                other.heard(text)


async def found(standing, rounds=5):
    lanes = {"a": make_lane(endpoint=ONE_WORKER), "b": make_lane(endpoint=ONE_WORKER)}
    for lane in lanes.values():
        FakeWorker("w", 1).join(lane)
    servers = []
    for name in standing:
        Server(name, servers, lanes)
    ended = []
    for _ in range(rounds):
        ended += [(each.gateway, got) for each in servers if (got := each.waits.look(standing[each.gateway]))]
        await asyncio.sleep(3 * COLLECT_SECONDS)
    for each in servers:
        await each.messages.stop()
    return ended


@pytest.mark.parametrize(
    ("standing", "ended"),
    [(CALLS, ("two", ("two-1", Wait("", "a", 1)))), (TASKS, ("two", ("task-2", Wait("task-3", "a"))))],
)
@in_loop
async def test_what_stands_still_at_two_servers_is_ended_by_one(standing, ended):
    assert set(await found(standing)) == {ended}


@pytest.mark.parametrize("standing", [MOVING, {"one": CALLS["one"]}, {"one": [], "two": CALLS["two"]}])
@in_loop
async def test_what_moves_at_any_server_is_left(standing):
    assert await found(standing) == []


@in_loop
async def test_it_is_ended_only_once_the_others_have_said_the_same_again():
    assert await found(CALLS, rounds=3) == []


@in_loop
async def test_much_is_said_in_messages_that_are_small_enough():
    many = [Standing(f"more-{n}", "a", tuple(Wait("", "c", at) for at in range(30))) for n in range(100)]
    assert await found({**CALLS, "one": [*CALLS["one"], *many]})
