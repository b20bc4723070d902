import json

import pytest
from flows import VirtualTime

from openlaunch.client.effects import Response
from openlaunch.client.operations.predictions import BulkWait, submit_many, wait_for
from openlaunch.client.predictions import Answer, EndpointRequest
from openlaunch.client.waiting import FutureFields, Gathering, distinct_ids
from openlaunch.errors import TooManyRequests, WaitTimeout


class Queue(VirtualTime):
    """A server's task queue, as far as flows see it."""

    def __init__(self):
        super().__init__()
        self.done = set()

    def answer(self, request):
        if request.url == "/v1/async-tasks/wait":
            ids = json.loads(request.body)["task_ids"]
            tasks = [self.task(i) for i in ids if i in self.done]
            return ok({"tasks": tasks, "pending": len(ids) - len(tasks)})
        if "/bulk?" in request.url:
            count = len(json.loads(request.body)["requests"])
            return ok({"task_ids": [f"{len(self.requests)}-{i}" for i in range(count)]})
        return ok(self.task(request.url.split("/")[3].split("?")[0]))

    def task(self, task_id):
        status = "SUCCESS" if task_id in self.done else "PENDING"
        return {"task_id": task_id, "status": status, "result": {"result": "1"}}


def ok(document):
    return Response(200, {}, json.dumps(document).encode())


@pytest.fixture
def queue():
    return Queue()


def test_many_tasks_are_submitted_a_thousand_at_a_time(queue):
    ids = queue.run(submit_many("end_1", [EndpointRequest(args={})] * 2500))
    assert len(ids) == 2500
    assert [len(json.loads(r.body)["requests"]) for r in queue.requests] == [1000, 1000, 500]


def test_each_submit_has_a_key_of_its_own(queue):
    queue.run(submit_many("end_1", [EndpointRequest(args={})] * 1001))
    keys = {request.headers["idempotency-key"] for request in queue.requests}
    assert len(keys) == 2
    assert all(request.idempotent for request in queue.requests)


def test_large_payloads_are_submitted_in_smaller_batches(queue):
    requests = [EndpointRequest(args={"x": "a" * 3_000_000})] * 5
    queue.run(submit_many("end_1", requests))
    assert [len(json.loads(r.body)["requests"]) for r in queue.requests] == [2, 2, 1]


def test_nothing_is_submitted_for_nothing(queue):
    assert queue.run(submit_many("end_1", [])) == []
    assert queue.requests == []


def test_a_refusal_tells_how_many_had_been_taken():
    flow = submit_many("end_1", [EndpointRequest(args={})] * 1500)
    next(flow)
    flow.send(ok({"task_ids": ["t"] * 1000}))
    with pytest.raises(TooManyRequests) as caught:
        flow.throw(TooManyRequests("the queue is full"))
    assert caught.value.__notes__ == ["1000 of 1500 tasks had been submitted before"]


def test_headers_of_its_own_can_not_go_in_a_batch(queue):
    request = EndpointRequest(args={}, request_id="r1", extra_headers={"x": "1"})
    with pytest.raises(ValueError, match="'r1' has extra_headers"):
        queue.run(submit_many("end_1", [request]))


def test_one_bulk_wait_serves_many_tasks(queue):
    wait = BulkWait(str(i) for i in range(500))
    queue.done = {"3", "7"}
    assert set(queue.run(wait.poll(30))) == {"3", "7"}
    assert len(queue.requests) == 1
    assert len(wait) == 498


def test_windows_of_more_than_a_thousand_take_turns(queue):
    wait = BulkWait(str(i) for i in range(2500))
    queue.done = {"2400"}
    polls = [queue.run(wait.poll(30)) for _ in range(3)]
    assert [set(poll) for poll in polls] == [set(), set(), {"2400"}]
    assert max(json.loads(r.body)["wait"] for r in queue.requests) <= 0.2


def test_a_failed_poll_loses_no_task():
    wait = BulkWait(["a", "b"])
    flow = wait.poll(1)
    next(flow)
    with pytest.raises(TooManyRequests):
        flow.throw(TooManyRequests("full"))
    assert len(wait) == 2


def test_a_wait_is_held_by_the_server_for_as_long_as_there_is_time(queue):
    queue.done = {"t"}
    assert queue.run(wait_for("t", 7.5, clock=lambda: 0.0)).done
    assert queue.requests[0].url == "/v1/async-tasks/t?wait=7.500"


class Slow(Queue):
    """Its task is done once this number of requests were answered that it is not."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def answer(self, request):
        if len(self.requests) > self.after:
            self.done = {"t"}
        return super().answer(request)


def test_a_wait_without_a_timeout_goes_on():
    queue = Slow(after=3)
    assert queue.run(wait_for("t", clock=lambda: queue.now)).result == "1"


def test_a_server_that_does_not_hold_polls_is_not_flooded():
    queue = Slow(after=10)
    queue.run(wait_for("t", clock=lambda: queue.now))
    assert queue.now == pytest.approx(2.0)
    queue = Slow(after=10)
    wait = BulkWait(["t"], clock=lambda: queue.now)
    while not queue.run(wait.poll(30)):
        pass
    assert queue.now == pytest.approx(2.0)


def test_a_wait_that_is_over_says_that_the_task_keeps_running(queue):
    with pytest.raises(WaitTimeout, match="task t is PENDING after 5 seconds; it keeps running"):
        queue.run(wait_for("t", 5, clock=lambda: queue.now))
    assert queue.now == pytest.approx(5)


class Future(FutureFields):
    pass


def test_futures_are_gathered_by_client():
    a, b = object(), object()
    done = Future(a, "e", "t0")
    done.keep(Answer("SUCCESS"))
    gathering = Gathering([done, Future(a, "e", "t1"), Future(b, "e", "t2"), Future(a, "e", "t3")], None)
    assert gathering.ready == [done]
    assert [len(group) for group in gathering.groups()] == [2, 1]


def test_two_futures_of_one_task_are_both_given(queue):
    futures = [Future(None, "e", "t"), Future(None, "e", "t")]
    gathering = Gathering(futures, None)
    queue.done = {"t"}
    (group,) = gathering.groups()
    assert queue.run(group.poll(1)) == futures
    assert not gathering.groups()


def test_time_is_over_for_all_together():
    now = [0.0]
    gathering = Gathering([Future(None, "e", "t")], 3, clock=lambda: now[0])
    gathering.check_time()
    assert gathering.seconds() == 3
    now[0] = 3.0
    with pytest.raises(WaitTimeout, match="1 tasks are not done after 3 seconds"):
        gathering.check_time()


def test_ids_in_a_batch_are_distinct():
    requests = [EndpointRequest(args={}, request_id=i) for i in ("a", "b", "a")]
    with pytest.raises(ValueError, match="'a' is given more than once"):
        distinct_ids(requests)
    assert distinct_ids(requests[:2]) == ["a", "b"]
