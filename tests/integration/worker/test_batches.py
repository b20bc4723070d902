"""Requests that are run together, by predict functions that take a list."""

import asyncio
import json
import pickle
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from worker_driver import Worker, returning, wait_until

from openlaunch_worker.batching import BatchRule
from openlaunch_worker.frames import Flags, Kind, Outcome

pytestmark = pytest.mark.usefixtures("each_loop", "by_value")


def batching(predict, max_size, max_wait=30.0, **options):
    """A worker whose batches run when they are full, unless told otherwise."""
    options.setdefault("per_worker", 2 * max_size)
    return Worker(returning(predict), batch=BatchRule(max_size, max_wait), **options)


def send(worker, *inputs, deadline=0.0):
    return [worker.request({"args": one}, deadline=deadline) for one in inputs]


def answers(worker, count):
    """The next answers by request id: the value, or the text of the failure."""
    found = {}
    for _ in range(count):
        request_id, outcome, body = worker.answer()
        answer = json.loads(body)
        assert (outcome == Outcome.SUCCESS) == (answer["status"] == "SUCCESS")
        found[request_id] = (
            json.loads(answer["result"]["result"]) if answer["result"] else answer["traceback"]
        )
    return found


def sizes(inputs):
    return [[one["x"], len(inputs)] for one in inputs]


async def sizes_async(inputs):
    await asyncio.sleep(0)
    return sizes(inputs)


KINDS = pytest.mark.parametrize(
    "predict", [sizes, sizes_async, lambda inputs: sizes_async(inputs)], ids=["plain", "async", "awaitable"]
)


@KINDS
def test_a_full_batch_runs_at_once_and_each_request_gets_its_own_result(predict):
    with batching(predict, 3) as worker:
        worker.ready()
        sent = send(worker, {"x": 0}, {"x": 1}, {"x": 2})
        assert answers(worker, 3) == {sent[i]: [i, 3] for i in range(3)}


@pytest.mark.parametrize("predict", [sizes, sizes_async], ids=["plain", "async"])
def test_a_batch_that_is_not_full_runs_when_its_first_has_waited(predict):
    with batching(predict, 100, max_wait=0.3) as worker:
        worker.ready()
        began = time.monotonic()
        sent = send(worker, {"x": 0}, {"x": 1})
        assert answers(worker, 2) == {sent[i]: [i, 2] for i in range(2)}
        assert time.monotonic() - began >= 0.3


def test_without_a_wait_what_comes_together_is_one_batch():
    with batching(sizes, 100, max_wait=0.0) as worker:
        worker.ready()
        one = worker.request({"args": {"x": 7}})
        assert answers(worker, 1) == {one: [7, 1]}


def test_more_than_a_batch_is_run_in_order():
    with batching(sizes, 2, max_wait=0.5, per_worker=5) as worker:
        worker.ready()
        sent = send(worker, *({"x": i} for i in range(5)))
        got = answers(worker, 5)
        assert list(got) == sent
        assert [got[request_id] for request_id in sent] == [[0, 2], [1, 2], [2, 2], [3, 2], [4, 1]]


def held(model):
    """A predict function that holds its first batch until a file is there, and tells of it by another."""
    import pathlib

    begun = []

    def predict(inputs):
        if not begun:
            begun.append(True)
            pathlib.Path("begun").touch()
            while not pathlib.Path("go").exists():
                time.sleep(0.001)
        return sizes(inputs)

    return predict


@pytest.fixture
def holding():
    bundle = {"load_model_fn": lambda: None, "load_predict_fn": held}
    with Worker(bundle, per_worker=8, batch=BatchRule(4, 0.0)) as worker:
        worker.ready()
        first = worker.request({"args": {"x": "first"}})
        wait_until((worker.folder / "begun").exists)
        yield worker, first


def let_go(worker):
    """Let the first batch end, once the worker has read all that was sent to it."""
    broken = worker.request(None, raw=b"{")
    assert worker.answer()[0] == broken
    (worker.folder / "go").touch()


def test_while_a_batch_runs_the_next_gathers(holding):
    worker, first = holding
    sent = send(worker, {"x": 0}, {"x": 1}, {"x": 2})
    let_go(worker)
    assert answers(worker, 4) == {first: ["first", 1], **{sent[i]: [i, 3] for i in range(3)}}


def test_who_leaves_before_the_batch_runs_is_not_in_it(holding):
    worker, first = holding
    sent = send(worker, {"x": 0}, {"x": 1}, {"x": 2})
    worker.send(Kind.CANCEL, sent[1])
    assert worker.answer()[:2] == (sent[1], Outcome.CANCELLED)
    let_go(worker)
    assert answers(worker, 3) == {first: ["first", 1], sent[0]: [0, 2], sent[2]: [2, 2]}


def test_whose_deadline_passes_before_the_batch_runs_is_not_in_it(holding):
    worker, first = holding
    (late,) = send(worker, {"x": "late"}, deadline=0.05)
    (other,) = send(worker, {"x": "other"})
    assert "the deadline of 0.05 seconds passed" in answers(worker, 1)[late]
    let_go(worker)
    assert answers(worker, 2) == {first: ["first", 1], other: ["other", 1]}


def test_a_batch_that_was_interrupted_makes_room_for_the_next(holding):
    worker, first = holding
    (other,) = send(worker, {"x": "other"})
    worker.send(Kind.CANCEL, first)
    assert worker.answer()[:2] == (first, Outcome.CANCELLED)
    assert answers(worker, 1) == {other: ["other", 1]}


def test_a_worker_that_drains_runs_what_has_gathered(holding):
    worker, first = holding
    (other,) = send(worker, {"x": "other"})
    worker.send(Kind.DRAIN, 0)
    let_go(worker)
    assert answers(worker, 2) == {first: ["first", 1], other: ["other", 1]}
    assert worker.exit_code() == 0


def test_who_leaves_is_answered_at_once_while_others_wait_for_the_same_batch():
    def predict(inputs):
        import time

        print("begun", flush=True)
        time.sleep(0.5)
        return inputs

    with batching(predict, 2) as worker:
        worker.ready()
        leaves, stays = send(worker, {"x": "leaves"}, {"x": "stays"})
        worker.wait_for_log("begun")
        worker.send(Kind.CANCEL, leaves)
        assert worker.answer()[:2] == (leaves, Outcome.CANCELLED)
        assert answers(worker, 1) == {stays: {"x": "stays"}}


def test_a_plain_batch_that_nobody_waits_for_any_more_is_interrupted():
    def predict(inputs):
        print("begun", flush=True)
        try:
            while True:
                pass
        finally:
            print("stopped", flush=True)

    with batching(predict, 2) as worker:
        worker.ready()
        sent = send(worker, {}, {})
        worker.wait_for_log("begun")
        for one in sent:
            worker.send(Kind.CANCEL, one)
        assert {worker.answer()[:2] for _ in sent} == {(one, Outcome.CANCELLED) for one in sent}
        worker.wait_for_log("stopped")


def test_an_async_batch_that_nobody_waits_for_any_more_is_cancelled():
    async def predict(inputs):
        print("begun", flush=True)
        try:
            await asyncio.sleep(60)
        finally:
            print("stopped", flush=True)

    with batching(predict, 2) as worker:
        worker.ready()
        sent = send(worker, {}, {})
        worker.wait_for_log("begun")
        worker.send(Kind.CANCEL, sent[0])
        worker.send(Kind.CANCEL, sent[1])
        assert {worker.answer()[:2] for _ in sent} == {(one, Outcome.CANCELLED) for one in sent}
        assert "stopped" in worker.log()


def test_an_async_batch_ends_with_the_last_deadline_of_its_members():
    async def predict(inputs):
        await asyncio.sleep(60)

    with batching(predict, 2) as worker:
        worker.ready()
        sent = [*send(worker, {}, deadline=0.1), *send(worker, {}, deadline=0.3)]
        got = answers(worker, 2)
        assert [got[one].partition(" seconds")[0] for one in sent] == [
            "the deadline of 0.1",
            "the deadline of 0.3",
        ]


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_an_exception_fails_every_member_with_the_users_frames_alone(kind):
    def predict(inputs):
        if not all(inputs):
            raise ValueError("broken model")
        return inputs

    async def async_predict(inputs):
        return predict(inputs)

    with batching(predict if kind == "plain" else async_predict, 2, max_wait=0.2) as worker:
        worker.ready()
        send(worker, {}, {})
        for text in answers(worker, 2).values():
            assert text.endswith("ValueError: broken model\n")
            assert "openlaunch_worker" not in text
        (again,) = send(worker, {"x": 1})
        assert answers(worker, 1) == {again: {"x": 1}}


def test_an_exception_among_the_results_fails_its_member_alone():
    def predict(inputs):
        return [ValueError("x is no number") if one["x"] is None else one["x"] for one in inputs]

    with batching(predict, 3) as worker:
        worker.ready()
        sent = send(worker, {"x": 0}, {"x": None}, {"x": 2})
        got = answers(worker, 3)
        assert (got[sent[0]], got[sent[2]]) == (0, 2)
        assert got[sent[1]] == "ValueError: x is no number\n"


def test_a_result_that_is_no_json_fails_its_member_alone():
    with batching(lambda inputs: [0, 1j], 2) as worker:
        worker.ready()
        sent = send(worker, {}, {})
        got = answers(worker, 2)
        assert got[sent[0]] == 0
        assert "of type complex" in got[sent[1]]


@pytest.mark.parametrize(
    ("predict", "told"),
    [(lambda inputs: inputs[:1], "returned a list of 1"), (lambda inputs: 5, "an object of type int")],
    ids=["too few", "no list"],
)
def test_a_wrong_return_value_fails_every_member_and_says_what_is_needed(predict, told):
    with batching(predict, 2) as worker:
        worker.ready()
        send(worker, {}, {})
        for text in answers(worker, 2).values():
            assert told in text
            assert "a list with one result for each input" in text


def test_each_member_says_whether_its_result_is_pickled():
    with batching(lambda inputs: [{one["x"]} if one["x"] else [] for one in inputs], 2) as worker:
        worker.ready()
        plain = worker.request({"args": {"x": 0}})
        pickled = worker.request({"args": {"x": 1}}, Flags.PICKLED)
        got = {
            request_id: (outcome, body) for request_id, outcome, body in (worker.answer(), worker.answer())
        }
        assert json.loads(got[plain][1])["result"] == {"result": "[]"}
        assert got[pickled][0] == Outcome.PICKLED
        assert pickle.loads(got[pickled][1]) == {1}


def test_args_that_are_no_object_and_bytes_of_urls_are_members_too(server):
    def predict(inputs):
        return [len(one) if isinstance(one, bytes) else one for one in inputs]

    with batching(predict, 2, max_wait=30.0) as worker:
        worker.ready()
        missing = worker.request({"url": f"{server}/missing"})
        assert "404" in answers(worker, 1)[missing]
        fetched = worker.request({"url": f"{server}/bytes?5"})
        (plain,) = send(worker, [1, 2])
        assert answers(worker, 2) == {fetched: 5, plain: [1, 2]}


def test_a_request_that_can_not_be_read_is_in_no_batch():
    with batching(sizes, 2) as worker:
        worker.ready()
        broken = worker.request(None, raw=b"{")
        request_id, outcome, _ = worker.answer()
        assert (request_id, outcome) == (broken, Outcome.FAILURE)
        sent = send(worker, {"x": 0}, {"x": 1})
        assert answers(worker, 2) == {sent[0]: [0, 2], sent[1]: [1, 2]}


def test_one_thread_runs_all_batches():
    def predict(inputs):
        return [threading.get_ident()] * len(inputs)

    with batching(predict, 2) as worker:
        worker.ready()
        seen = set()
        for _ in range(5):
            send(worker, {}, {})
            seen |= set(answers(worker, 2).values())
        assert len(seen) == 1


@dataclass
class Sized:
    data: bytes
    more: int = 1


def taking(predict, takes, item):
    """A function as `deploy` packs it, with what is made of each request for it."""
    predict.takes, predict.item = takes, item
    return predict


def test_items_are_made_of_the_args_and_one_that_can_not_be_fails_alone():
    def predict(items):
        return [[len(one.data) + one.more, len(items)] for one in items]

    with batching(taking(predict, {"data": bytes}, Sized), 2) as worker:
        worker.ready()
        (bad,) = send(worker, {"data": "no URL"})
        assert "data: a file is needed" in answers(worker, 1)[bad]
        sent = send(worker, {"data": "data:,abc"}, {"data": "data:,", "more": 4})
        assert answers(worker, 2) == {sent[0]: [4, 2], sent[1]: [4, 2]}


def test_the_file_of_who_leaves_is_there_until_the_batch_has_ended(tmp_path):
    def predict(paths):
        (tmp_path / "runs").touch()
        while not (tmp_path / "go").exists():
            time.sleep(0.001)
        return [[path.read_text() for path in paths], [str(path) for path in paths]][:2]

    with batching(taking(predict, {"data": Path}, "data"), 2) as worker:
        worker.ready()
        first, second = send(worker, {"data": "data:,a"}, {"data": "data:,b"})
        wait_until((tmp_path / "runs").exists)
        worker.send(Kind.CANCEL, first)
        assert worker.answer()[1] == Outcome.CANCELLED
        (tmp_path / "go").touch()
        [left] = answers(worker, 1).items()
        assert left[0] == second
        wait_until(lambda: not any(Path(each).exists() for each in left[1]))
