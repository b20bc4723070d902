"""Lists of the last minute of endpoints: however many there are, the event loop has its turns."""

import asyncio
import json
from types import SimpleNamespace

from openlaunch.controller.fleet import Load
from openlaunch.server import clock
from openlaunch.server.control import metrics_view
from openlaunch.server.control.metrics_view import SLICE, Summaries
from openlaunch.server.dispatch.troubles import Troubles
from openlaunch.server.metrics.counts import EndpointCounts
from openlaunch.server.metrics.history import SHORTEST, History, Watched
from openlaunch.wire.endpoints import EndpointStatus, EndpointType
from openlaunch.wire.events import EventKind

ENDPOINTS = 1000


def lane(number):
    endpoint = SimpleNamespace(
        id=f"end_{number}",
        name=f"e{number}",
        owner="ada" if number else "bob",
        endpoint_type=EndpointType.SYNC,
        status=EndpointStatus.READY,
        status_reason=None,
        updated_at=1000.0,
    )
    return SimpleNamespace(
        endpoint=endpoint,
        load=lambda: Load(0, 0),
        numbers=EndpointCounts(),
        troubles=Troubles(),
        oldest=None,
    )


def context_of(lanes):
    def watched():
        return [Watched(each.endpoint.id, each.numbers, (0, 0, 1)) for each in lanes]

    controller = SimpleNamespace(view=SimpleNamespace(workers=lambda endpoint_id: (1, 0)))
    return SimpleNamespace(lanes=lanes, history=History(None, watched), controller=controller)


def test_a_thousand_endpoints_are_listed_in_many_turns_of_the_loop_and_once_for_all_who_ask():
    context = context_of([lane(number) for number in range(ENDPOINTS)])

    async def ask():
        summaries, turns = Summaries(context), 0
        asked = asyncio.gather(*(summaries.of("ada") for _ in range(50)))
        while not asked.done():
            turns += 1
            await asyncio.sleep(0)
        return await asked, turns

    answers, turns = asyncio.run(ask())
    assert len(json.loads(answers[0])["endpoints"]) == ENDPOINTS - 1
    assert turns >= ENDPOINTS / SLICE
    assert all(answer is answers[0] for answer in answers)


def test_what_has_failed_since_the_last_look_is_on_top_of_the_next_list():
    lanes = [lane(number) for number in range(1, 4)]
    context = context_of(lanes)

    async def first_of():
        summaries = Summaries(context)
        await context.history.take(clock.now())
        await summaries.of("ada")
        for answer in (*([0] * 5), 1):
            lanes[2].numbers.of(1)._answers[answer] += 1
        await context.history.take(clock.now() + SHORTEST)
        summaries._made.clear()  # a second later
        return json.loads(await summaries.of("ada"))["endpoints"][0]["name"]

    assert asyncio.run(first_of()) == "e3"


def test_a_page_that_has_the_list_gets_what_is_new_in_it(monkeypatch):
    for name in ("FRESH_SECONDS", "OPEN_SECONDS"):
        monkeypatch.setattr(metrics_view, name, 0)
    lanes = [lane(number) for number in range(1, 4)]
    context = context_of(lanes)

    async def ask(summaries, known=""):
        return json.loads(await summaries.changes("ada", known))

    async def run():
        summaries = Summaries(context)
        await context.history.take(clock.now())
        whole = await ask(summaries)
        assert (whole["order"], len(whole["endpoints"])) == (["end_1", "end_2", "end_3"], 3)
        same = await ask(summaries, whole["version"])
        assert same == {"version": whole["version"], "order": None, "endpoints": []}
        lanes[2].numbers.of(1)._answers[1] += 1
        await context.history.take(clock.now() + SHORTEST)
        await summaries.of("*")  # which has the same lines
        changed = await ask(summaries, whole["version"])
        assert changed["order"] == ["end_3", "end_1", "end_2"]
        assert [each["id"] for each in changed["endpoints"]] == ["end_3"]
        del lanes[0]
        gone = await ask(summaries, changed["version"])
        assert (gone["order"], gone["endpoints"]) == (["end_3", "end_2"], [])
        for unknown in ("", "another-1", f"{gone['version']}x", "-"):
            assert len((await ask(summaries, unknown))["endpoints"]) == 2

    asyncio.run(run())


def test_what_is_wrong_is_above_what_is_not_with_its_time_and_a_failure_of_before_a_restart_too(monkeypatch):
    monkeypatch.setattr(metrics_view, "OPEN_SECONDS", 0)
    lanes = [lane(number) for number in range(1, 5)]
    context = context_of(lanes)
    lanes[1].endpoint.status, lanes[1].endpoint.status_reason = EndpointStatus.UPDATE_FAILED, "no weights"

    async def run():
        summaries = Summaries(context)
        version = json.loads(await summaries.changes("ada"))["version"]
        lanes[3].troubles.happened(EventKind.WAITS_BEGAN, "over 1 s", 2000.0)
        lanes[2].oldest = 1500.0
        changed = json.loads(await summaries.changes("ada", version))
        assert changed["order"] == ["end_2", "end_4", "end_1", "end_3"]
        assert {each["id"] for each in changed["endpoints"]} == {"end_3", "end_4"}
        return json.loads(await summaries.of("ada"))["endpoints"]

    failed, waits, _, old = asyncio.run(run())
    assert [(each["message"], each["since"]) for each in failed["troubles"]] == [
        ("the update failed: no weights", "1970-01-01T00:16:40Z")
    ]
    assert [(each["message"], each["since"]) for each in waits["troubles"]] == [
        ("requests began to wait for long: over 1 s", "1970-01-01T00:33:20Z")
    ]
    assert (old["troubles"], old["oldest_task_at"]) == ([], "1970-01-01T00:25:00Z")
