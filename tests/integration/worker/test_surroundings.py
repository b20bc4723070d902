"""What functions find around them: the event loop that serves, context variables, programs, logging."""

import asyncio
import contextvars
import logging
import sys
from functools import partial
from pathlib import Path

import pytest
from worker_driver import Worker

pytestmark = pytest.mark.usefixtures("each_loop", "by_value")


def bundle(load, predict):
    def load_predict(model):
        return partial(predict, model)

    return {"load_model_fn": load, "load_predict_fn": load_predict}


def load_doubler():
    """A queue, and a task on the loop of now that answers what is put there."""
    queue = asyncio.Queue()

    async def work():
        while True:
            x, future = await queue.get()
            future.set_result(2 * x)

    return queue, asyncio.get_event_loop().create_task(work())


def load_doubler_after_a_loop_of_its_own():
    asyncio.run(asyncio.sleep(0))
    return


async def load_doubler_on_the_loop():
    await asyncio.sleep(0)
    return load_doubler()


async def ask(model, x):
    future = asyncio.get_running_loop().create_future()
    await model[0].put((x, future))
    return await future


@pytest.mark.parametrize("load", [load_doubler, load_doubler_on_the_loop])
def test_a_task_that_loading_starts_runs_when_predict_does(load):
    with Worker(bundle(load, ask)) as worker:
        worker.ready()
        assert worker.value(x=2) == 4


def test_the_loop_is_there_also_after_loading_has_run_one_of_its_own():
    functions = bundle(load_doubler_after_a_loop_of_its_own, ask)
    functions["load_predict_fn"] = lambda model: partial(ask, load_doubler())
    with Worker(functions) as worker:
        worker.ready()
        assert worker.value(x=2) == 4


def test_a_task_that_is_left_on_a_loop_that_does_not_run_is_named_in_the_log():
    def load():
        loop = asyncio.new_event_loop()
        return loop, loop.create_task(asyncio.sleep(60), name="the batcher")

    with Worker(bundle(load, lambda model: 1)) as worker:
        worker.ready()
        assert worker.value() == 1
        assert "loading left tasks on an event loop that does not run: the batcher" in worker.log()


def test_an_async_load_that_fails_says_so():
    async def load():
        await asyncio.sleep(0)
        raise ValueError("no weights")

    with Worker(bundle(load, ask)) as worker:
        assert worker.load_failure()["reason"] == "load_model_fn failed: ValueError: no weights"


def test_context_variables_that_loading_sets_are_seen():
    name = "the language"

    def load():
        variable = contextvars.ContextVar(name, default="none")
        variable.set("greek")
        return variable

    async def load_on_the_loop():
        return load()

    async def on_the_loop(variable):
        return variable.get()

    def in_a_thread(variable):
        return variable.get()

    for load_model in (load, load_on_the_loop):
        for predict in (on_the_loop, in_a_thread):
            with Worker(bundle(load_model, predict)) as worker:
                worker.ready()
                assert worker.value() == "greek"


def test_programs_of_the_environment_come_first_and_what_is_logged_is_in_the_log():
    def predict(model):
        import shutil

        logging.getLogger("my.model").info("something of interest")
        logging.getLogger("my.model").debug("too much")
        return [shutil.which("python"), sys.executable]

    with Worker(bundle(lambda: None, predict)) as worker:
        worker.ready()
        python, own = worker.value()
        assert Path(python).parent == Path(own).parent
        worker.wait_for_log("INFO:my.model:something of interest")
        assert "too much" not in worker.log()


def test_what_has_no_line_end_is_in_the_log_before_the_answer():
    def predict(model):
        from openlaunch_worker import process

        process.UNENDED_SECONDS = 600.0
        print("no end", end="")

    with Worker(bundle(lambda: None, predict)) as worker:
        worker.ready()
        assert worker.value() is None
        worker.wait_for_log("no end")


def test_what_has_no_line_end_is_in_the_log_soon():
    def predict(model):
        print("no end", end="")

    with Worker(bundle(lambda: None, predict)) as worker:
        worker.ready()
        assert worker.value() is None
        worker.wait_for_log("no end")


def test_logging_that_the_bundle_sets_up_stays_as_it_is():
    def load():
        logging.basicConfig(level=logging.DEBUG, format="mine %(message)s")

    def predict(model):
        logging.getLogger("my.model").debug("something")

    with Worker(bundle(load, predict)) as worker:
        worker.ready()
        assert worker.value() is None
        worker.wait_for_log("mine something")
        assert "my.model" not in worker.log()
