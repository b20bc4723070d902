"""Futures, batches and callbacks over a task queue in memory."""

import asyncio
import json
import threading

import pytest

import openlaunch
from openlaunch import aio
from openlaunch.client.effects import Response
from openlaunch.client.immediate import as_coroutine
from openlaunch.client.watcher import AsyncWatcher, Watcher
from openlaunch.errors import ConnectionFailed, PredictionFailed, WaitTimeout
from openlaunch.wire.tasks import CANCELLED_STATUS_CODE


class Queue:
    """Answers flows as a server with a task queue does; bulk waits are held until something is done."""

    def __init__(self):
        self.results = {}
        self.requests = []
        self.broken = None
        self.changed = threading.Condition()

    def finish(self, task_id, value=None, status="SUCCESS", status_code=200):
        with self.changed:
            self.results[task_id] = {
                "status": status,
                "result": {"result": json.dumps(value)},
                "traceback": None if status == "SUCCESS" else "it was no good",
                "status_code": status_code,
            }
            self.changed.notify_all()

    def answer(self, request):
        self.requests.append(request)
        if self.broken is not None:
            raise self.broken
        if request.url == "/v1/async-tasks/wait":
            return ok(self.bulk_wait(**json.loads(request.body)))
        task_id = request.url.split("/")[3].split("?")[0]
        if request.url.endswith("/cancel"):
            self.finish(task_id, status="FAILURE", status_code=CANCELLED_STATUS_CODE)
            return ok({"cancelled": True})
        return ok({"task_id": task_id, **self.results.get(task_id, {"status": "PENDING"})})

    def bulk_wait(self, task_ids, wait):
        with self.changed:
            self.changed.wait_for(lambda: any(i in self.results for i in task_ids), wait)
            tasks = [{"task_id": i, **self.results[i]} for i in task_ids if i in self.results]
        return {"tasks": tasks, "pending": len(task_ids) - len(tasks)}


def ok(document):
    return Response(200, {}, json.dumps(document).encode())


class Client:
    """As much of a blocking client as futures need."""

    def __init__(self, queue):
        self.queue = queue
        self.watcher = Watcher(as_coroutine(self.run))

    def run(self, flow):
        try:
            effect = next(flow)
            while True:
                try:
                    answer = self.queue.answer(effect)
                except Exception as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(answer)
        except StopIteration as stop:
            return stop.value


class AsyncClient:
    def __init__(self, queue):
        self.blocking = Client(queue)
        self.watcher = AsyncWatcher(self.run)

    async def run(self, flow):
        return await asyncio.to_thread(self.blocking.run, flow)


@pytest.fixture
def queue():
    return Queue()


@pytest.fixture
def client(queue):
    client = Client(queue)
    yield client
    client.watcher.close()


def future(client, task_id="t"):
    return openlaunch.EndpointResponseFuture(client, "double", task_id)


def test_a_future_gives_its_response_and_keeps_it(queue, client):
    queue.finish("t", 4)
    waited = future(client)
    assert waited.get().value == 4
    assert waited.done()
    assert waited.get(timeout=1).value == 4
    assert len(queue.requests) == 1


def test_a_future_that_is_not_done_says_so(queue, client):
    waited = future(client)
    assert not waited.done()
    with pytest.raises(WaitTimeout):
        waited.get(timeout=0)
    assert "not known to be done" in repr(waited)


def test_a_wait_timeout_is_a_timeout_error(client):
    with pytest.raises(TimeoutError):
        future(client).get(timeout=0)


def test_a_cancelled_future_has_no_value(client):
    waited = future(client)
    assert waited.cancel()
    with pytest.raises(openlaunch.errors.TaskCancelled):
        _ = waited.get().value


def test_a_failed_task_raises_only_when_asked_to(queue, client):
    queue.finish("t", status="FAILURE", status_code=500)
    response = future(client).get()
    assert (response.status, response.status_code) == ("FAILURE", 500)
    with pytest.raises(PredictionFailed, match="it was no good"):
        response.raise_for_status()


def test_futures_come_as_they_are_done(queue, client):
    futures = [future(client, str(i)) for i in range(3)]
    completed = openlaunch.as_completed(futures)
    seen = []
    for task_id in ("1", "0", "2"):
        queue.finish(task_id, int(task_id))
        seen.append(next(completed).get().value)
    assert seen == [1, 0, 2]
    with pytest.raises(StopIteration):
        next(completed)
    assert len(queue.requests) == 3


def test_what_is_not_a_future_is_named():
    with pytest.raises(TypeError, match="one of the futures is of type str"):
        list(openlaunch.as_completed(["a task"]))


def test_many_tasks_are_waited_for_in_bulk(queue, client):
    for i in range(900):
        queue.finish(str(i), i)
    values = {f.get().value for f in openlaunch.as_completed([future(client, str(i)) for i in range(900)])}
    assert values == set(range(900))
    assert len(queue.requests) == 1


def test_more_than_a_thousand_tasks_come_whatever_their_order(queue, client):
    futures = [future(client, str(i)) for i in range(2500)]
    completed = openlaunch.as_completed(futures)
    queue.finish("2499")
    assert next(completed).async_task_id == "2499"
    for i in range(2499):
        queue.finish(str(i))
    assert len(list(completed)) == 2499
    assert len(queue.requests) <= 9


def test_tasks_of_several_servers_are_waited_for_together(queue, client):
    other_queue = Queue()
    other = Client(other_queue)
    completed = openlaunch.as_completed([future(client, "a"), future(other, "b")])
    other_queue.finish("b")
    assert next(completed).async_task_id == "b"
    queue.finish("a")
    assert next(completed).async_task_id == "a"


def test_time_is_over_for_those_that_are_not_done(queue, client):
    queue.finish("a")
    completed = openlaunch.as_completed([future(client, "a"), future(client, "b")], timeout=0.05)
    assert next(completed).async_task_id == "a"
    with pytest.raises(WaitTimeout, match="1 tasks are not done"):
        next(completed)


def test_callbacks_are_called_once_the_task_is_done(queue, client):
    called = threading.Event()
    seen = []
    waited = future(client)
    waited.add_done_callback(lambda f: (seen.append(f), called.set()))
    assert not seen
    queue.finish("t", 4)
    assert called.wait(10)
    assert seen == [waited]
    assert waited.get().value == 4


def test_a_callback_of_a_done_future_is_called_at_once(queue, client):
    queue.finish("t")
    waited = future(client)
    waited.get()
    seen = []
    waited.add_done_callback(seen.append)
    assert seen == [waited]


def test_one_thread_serves_all_callbacks_even_when_one_raises(queue, client, caplog):
    done = threading.Semaphore(0)
    threads = set()

    def callback(waited):
        threads.add(threading.current_thread())
        done.release()
        if waited.async_task_id == "3":
            raise RuntimeError("mine")

    for i in range(50):
        future(client, str(i)).add_done_callback(callback)
    for i in range(50):
        queue.finish(str(i))
    for _ in range(50):
        assert done.acquire(timeout=10)
    assert len(threads) == 1
    client.watcher.close()
    assert "a done-callback of task 3 raised" in caplog.text


def test_callbacks_are_called_when_the_server_is_gone(queue, client):
    queue.broken = ConnectionFailed("gone")
    called = threading.Event()
    waited = future(client)
    waited.add_done_callback(lambda f: called.set())
    assert called.wait(10)
    with pytest.raises(ConnectionFailed, match="gone"):
        waited.get()


def test_a_closed_client_takes_no_callbacks(client):
    client.watcher.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        future(client).add_done_callback(print)


def test_a_batch_counts_its_tasks(queue, client):
    queue.finish("t1", 1)
    queue.finish("t2", status="FAILURE", status_code=500)
    batch = openlaunch.AsyncEndpointBatchResponse(client, "double", {"a": "t1", "b": "t2", "c": "t3"})
    assert batch.get_responses() == {"a": None, "b": None, "c": None}
    assert not batch.is_done()
    assert batch.batch_status() == {"SUCCESS": 1, "FAILURE": 1, "PENDING": 1}
    queue.finish("t3", 3)
    assert not batch.is_done(poll=False)
    assert batch.is_done()
    assert [r.status for r in batch.get_responses().values()] == ["SUCCESS", "FAILURE", "SUCCESS"]


def test_a_batch_asks_in_bulk(queue, client):
    for i in range(2000):
        queue.finish(str(i))
    batch = openlaunch.AsyncEndpointBatchResponse(client, "double", {str(i): str(i) for i in range(2000)})
    assert batch.is_done()
    assert len(queue.requests) == 2


def test_awaitable_futures_do_the_same(queue):
    async def main():
        client = AsyncClient(queue)
        futures = [aio.EndpointResponseFuture(client, "double", str(i)) for i in range(3)]
        queue.finish("0", "a")
        assert (await futures[0]).value == "a"
        assert not await futures[1].done()
        called = asyncio.Event()
        futures[1].add_done_callback(lambda f: called.set())
        queue.finish("1", "b")
        await asyncio.wait_for(called.wait(), 10)
        queue.finish("2", "c")
        values = [(await f.get()).value async for f in aio.as_completed(futures)]
        assert sorted(values) == ["a", "b", "c"]
        with pytest.raises(WaitTimeout):
            await aio.EndpointResponseFuture(client, "double", "9").get(timeout=0)
        await client.watcher.close()

    asyncio.run(main())


@pytest.mark.parametrize("module", [openlaunch, aio])
def test_a_future_says_how_to_get_what_a_response_has(module):
    future = module.EndpointResponseFuture(None, "name", "t")
    with pytest.raises(AttributeError, match=r"no attribute 'value': get\(\) waits for the task"):
        future.value  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'other'$"):
        future.other  # noqa: B018
    assert not hasattr(future, "value")
