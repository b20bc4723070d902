"""Requests that are answered with one value."""

import asyncio
import contextvars
import functools
import json
import pickle
import sys
import threading
import time

import pytest
from worker_driver import Worker, returning

from openlaunch_worker.frames import Flags, Kind, Outcome

pytestmark = pytest.mark.usefixtures("each_loop")


def failure_of(predict, document=None, flags=Flags.NONE, **options):
    with Worker(returning(predict), **options) as worker:
        worker.ready()
        answer = worker.call(document or {"args": {}}, flags)
        assert answer["status"] == "FAILURE", answer
        assert answer["result"] is None
        again = worker.call(document or {"args": {}}, flags)
        assert again["status"] == "FAILURE"  # and the worker lives
        return answer


def value_of(predict, args, **options):
    with Worker(returning(predict), **options) as worker:
        worker.ready()
        answer = worker.call({"args": args})
        assert answer["status"] == "SUCCESS", answer["traceback"]
        return json.loads(answer["result"]["result"])


def test_plain_function():
    def predict(x, y=2):
        return {"sum": x + y}

    assert value_of(predict, {"x": 1}) == {"sum": 3}


def test_async_function():
    async def predict(x):
        await asyncio.sleep(0)
        return x + 1

    assert value_of(predict, {"x": 1}) == 2


def test_partial():
    def predict(y, x):
        return [x, y]

    assert value_of(functools.partial(predict, 5), {"x": 1}) == [1, 5]


def test_callable_object():
    class Model:
        async def __call__(self, x):
            return -x

    assert value_of(Model(), {"x": 1}) == -1


def test_plain_function_that_returns_a_coroutine():
    async def inner(x):
        await asyncio.sleep(0)
        return x * 2

    assert value_of(lambda x: inner(x), {"x": 4}) == 8


def test_args_that_are_no_object_are_the_one_argument():
    assert value_of(lambda x: x, [1, 2]) == [1, 2]


def test_args_may_be_given_beside_a_null_url():
    with Worker(returning(lambda x: x)) as worker:
        worker.ready()
        assert worker.call({"args": {"x": 1}, "url": None})["status"] == "SUCCESS"


def test_the_answer_is_as_the_contract_has_it():
    with Worker(returning(lambda x: {"a": x})) as worker:
        worker.ready()
        assert worker.call({"args": {"x": "é"}}) == {
            "status": "SUCCESS",
            "result": {"result": json.dumps({"a": "é"})},
            "traceback": None,
            "status_code": 200,
        }


def test_plain_functions_overlap_up_to_per_worker():
    barrier_size = 4

    def load():
        return threading.Barrier(barrier_size)

    bundle = {"load_model_fn": load, "load_predict_fn": lambda barrier: lambda: barrier.wait(10)}
    with Worker(bundle, per_worker=barrier_size) as worker:
        worker.ready()
        sent = {worker.request({"args": {}}) for _ in range(barrier_size)}
        got = [worker.answer() for _ in range(barrier_size)]
        assert {request_id for request_id, _, _ in got} == sent
        assert {outcome for _, outcome, _ in got} == {Outcome.SUCCESS}


def test_async_functions_overlap():
    def load_predict(model):
        waiting = []

        async def predict(count):
            future = asyncio.get_running_loop().create_future()
            waiting.append(future)
            if len(waiting) == count:
                for one in waiting:
                    one.set_result(None)
            await future
            return len(waiting)

        return predict

    with Worker({"load_model_fn": lambda: None, "load_predict_fn": load_predict}, per_worker=100) as worker:
        worker.ready()
        for _ in range(100):
            worker.request({"args": {"count": 100}})
        assert {worker.answer()[1] for _ in range(100)} == {Outcome.SUCCESS}


def test_answers_come_as_they_are_ready_not_in_order():
    async def predict(seconds):
        await asyncio.sleep(seconds)

    with Worker(returning(predict)) as worker:
        worker.ready()
        slow = worker.request({"args": {"seconds": 0.2}})
        fast = worker.request({"args": {"seconds": 0}})
        assert [worker.answer()[0], worker.answer()[0]] == [fast, slow]


def test_threads_are_made_when_they_are_needed():
    def predict():
        return threading.active_count()

    with Worker(returning(predict), per_worker=1000) as worker:
        worker.ready()
        first = worker.value()
        assert [worker.value() for _ in range(5)] == [first] * 5


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_context_variables_do_not_leak_into_the_next_request(kind):
    def load_predict(model):
        variable = contextvars.ContextVar("variable", default="fresh")

        def predict():
            seen = variable.get()
            variable.set("used")
            return seen

        async def async_predict():
            return predict()

        return predict if kind == "plain" else async_predict

    with Worker({"load_model_fn": lambda: None, "load_predict_fn": load_predict}) as worker:
        worker.ready()
        assert [worker.value() for _ in range(3)] == ["fresh"] * 3


def test_current_task_and_timeouts_work_in_async_functions():
    async def predict():
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            one = group.create_task(asyncio.sleep(0, "inner"))
        return one.result()

    assert value_of(predict, {}) == "inner"


def test_large_args_and_results():
    text = "x" * 3_000_000
    assert value_of(lambda text: text, {"text": text}) == text


# Failures.


def test_an_exception_is_a_failure_with_the_users_frames_alone():
    def predict():
        def inner():
            raise ValueError("broken model")

        inner()

    answer = failure_of(predict)
    assert answer["status_code"] == 500
    text = answer["traceback"]
    assert text.endswith("ValueError: broken model\n")
    assert text.count("File ") == 2
    assert "openlaunch_worker" not in text


def test_an_exception_in_an_async_function():
    async def predict():
        await asyncio.sleep(0)
        raise ValueError("broken model")

    text = failure_of(predict)["traceback"]
    assert "openlaunch_worker" not in text
    assert text.endswith("ValueError: broken model\n")


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]
)
def test_base_exceptions_are_failures_and_the_worker_lives(kind, error):
    def predict():
        raise error

    async def async_predict():
        raise error

    answer = failure_of(predict if kind == "plain" else async_predict)
    assert type(error).__name__ in answer["traceback"]


def test_system_exit_in_a_task_of_the_users_own_does_not_end_the_worker():
    async def predict():
        async def leave():
            sys.exit(7)

        await asyncio.sleep(0)
        task = asyncio.get_running_loop().create_task(leave())
        await asyncio.wait([task])
        return "alive"

    with Worker(returning(predict)) as worker:
        worker.ready()
        assert worker.value() == "alive"
        assert worker.value() == "alive"
        assert "SystemExit was raised in the event loop" in worker.log()


def test_wrong_arguments():
    answer = failure_of(lambda x: x, {"args": {"y": 1}})
    assert "unexpected keyword argument 'y'" in answer["traceback"]


def test_wrong_arguments_of_an_async_function():
    async def predict(x): ...

    assert "unexpected keyword argument 'y'" in failure_of(predict, {"args": {"y": 1}})["traceback"]


def test_a_value_that_is_not_json():
    text = failure_of(lambda: {"a": 1j})["traceback"]
    assert "of type dict" in text
    assert "complex" in text
    assert "return_pickled=True" in text


def test_not_a_number():
    assert "NaN" in failure_of(lambda: float("nan"))["traceback"]


def test_a_result_over_the_limit():
    text = failure_of(lambda: "x" * 2000, max_result_bytes=1024)["traceback"]
    assert "2002 bytes" in text
    assert "1024 bytes" in text


def test_a_generator_needs_a_streaming_endpoint():
    def predict():
        yield 1

    assert "streaming endpoint" in failure_of(predict)["traceback"]


def test_an_async_generator_needs_a_streaming_endpoint():
    async def predict():
        yield 1

    assert "streaming endpoint" in failure_of(predict)["traceback"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff\xfe", b'{"args": ' + b"[" * 100_000, b"{}", b"null"]
)
def test_a_body_that_can_not_be_read(body):
    with Worker(returning(lambda: 1)) as worker:
        worker.ready()
        worker.request(None, raw=body)
        _, outcome, answer = worker.answer()
        assert outcome == Outcome.FAILURE
        assert json.loads(answer)["status_code"] == 400
        assert worker.value() == 1


def test_a_request_beyond_the_slots_is_refused():
    def predict():
        time.sleep(0.3)

    with Worker(returning(predict), per_worker=1) as worker:
        worker.ready()
        worker.request({"args": {}})
        second = worker.request({"args": {}})
        request_id, outcome, body = worker.answer()
        assert (request_id, outcome) == (second, Outcome.FAILURE)
        assert json.loads(body)["status_code"] == 503
        assert worker.answer()[1] == Outcome.SUCCESS


# Pickled results.


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_pickled_result(kind):
    def predict():
        return {1, 2}

    async def async_predict():
        return {1, 2}

    with Worker(returning(predict if kind == "plain" else async_predict)) as worker:
        worker.ready()
        worker.request({"args": {}, "return_pickled": True}, Flags.PICKLED)
        _, outcome, body = worker.answer()
        assert outcome == Outcome.PICKLED
        assert pickle.loads(body) == {1, 2}


def test_a_result_that_can_not_be_pickled():
    assert "pickle" in failure_of(threading.Lock, flags=Flags.PICKLED)["traceback"]


def test_a_pickled_result_over_the_limit():
    text = failure_of(lambda: b"x" * 2000, flags=Flags.PICKLED, max_result_bytes=1024)["traceback"]
    assert "limit of 1024 bytes" in text


def test_many_requests_in_one_write_are_all_answered():
    async def predict(x):
        return x

    with Worker(returning(predict), per_worker=500) as worker:
        worker.ready()
        sent = [worker.request({"args": {"x": i}}) for i in range(500)]
        got = {}
        for _ in sent:
            kind, request_id, payload = worker.frame()
            assert kind == Kind.RESULT
            got[request_id] = json.loads(json.loads(payload[1:])["result"]["result"])
        assert got == {request_id: i for i, request_id in enumerate(sent)}
