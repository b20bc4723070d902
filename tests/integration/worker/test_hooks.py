"""health_fn and shutdown_fn of a bundle, in a real worker."""

import asyncio
import time

import pytest
from worker_driver import Worker, returning, zip_of

from openlaunch_worker.frames import Kind

pytestmark = pytest.mark.usefixtures("by_value")

SOON = {"health_interval": 0.05, "health_timeout": 0.3, "shutdown_timeout": 0.3}


def bundle(predict=lambda: 1, **hooks):
    return returning(predict) | hooks


def counted(limit):
    """A bundle whose model is how often it was asked, and that is not healthy from a number of requests on."""
    asked = []

    def predict():
        asked.append(1)
        return len(asked)

    return returning(predict) | {"health_fn": lambda model: len(asked) < limit}


async def _never(model):
    await asyncio.sleep(600)


def _hangs(model):
    time.sleep(600)


def _raises(model):
    raise OSError("the device is gone")


def _exits(model):
    raise SystemExit(3)


async def _says_no(model):
    return False


UNHEALTHY = {
    "no": (lambda model: False, "health_fn returned False"),
    "nothing": (lambda model: [], "health_fn returned []"),
    "raises": (_raises, "health_fn failed: OSError: the device is gone"),
    "exits": (_exits, "health_fn failed: RuntimeError: SystemExit: 3"),
    "hangs": (_hangs, "health_fn has not returned within 0.3 s"),
    "no, on the loop": (_says_no, "health_fn returned False"),
    "hangs on the loop": (_never, "health_fn has not returned within 0.3 s"),
    "without a parameter": (lambda: True, "positional argument"),
}


@pytest.mark.parametrize(("health", "said"), UNHEALTHY.values(), ids=UNHEALTHY)
def test_a_worker_whose_health_fn_says_no_at_first_never_serves(health, said):
    with Worker(bundle(health_fn=health), **SOON) as worker:
        assert said in worker.load_failure()["reason"]


def test_a_worker_says_once_that_it_is_not_healthy_and_finishes_what_it_runs():
    with Worker(counted(2), **SOON) as worker:
        worker.ready()
        assert worker.value() == 1
        assert worker.value() == 2
        assert worker.frame() == (Kind.UNHEALTHY, 0, b"health_fn returned False")
        assert worker.value() == 3
        worker.send(Kind.DRAIN, 0)
        assert worker.exit_code() == 0


@pytest.mark.parametrize("health", [lambda model: True, lambda model: None], ids=["True", "None"])
def test_a_healthy_worker_says_nothing(health):
    asked = []
    with Worker(bundle(health_fn=lambda model: (asked.append(1), health(model))[1]), **SOON) as worker:
        worker.ready()
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            assert worker.value() == 1


def test_health_is_asked_while_a_request_runs():
    def wait():
        time.sleep(600)

    began = time.monotonic()
    with Worker(
        bundle(wait, health_fn=lambda model: time.monotonic() - began < 1), per_worker=1, **SOON
    ) as worker:
        worker.ready()
        worker.request({"args": {}})
        assert worker.frame()[0] == Kind.UNHEALTHY


def _leaves(model):
    print("it leaves")


async def _leaves_on_loop(model):
    await asyncio.sleep(0)
    print("it leaves")


@pytest.mark.parametrize("shutdown", [_leaves, _leaves_on_loop])
def test_shutdown_fn_is_called_once_what_ran_has_ended(shutdown):
    def slow():
        time.sleep(0.2)
        print("it has run")
        return 1

    with Worker(bundle(slow, shutdown_fn=shutdown), **SOON) as worker:
        worker.ready()
        worker.request({"args": {}})
        worker.send(Kind.DRAIN, 0)
        worker.answer()
        assert worker.exit_code() == 0
        assert worker.log().index("it has run") < worker.log().index("it leaves")


@pytest.mark.parametrize(
    ("shutdown", "said"),
    [
        (_raises, "OSError: the device is gone"),
        (_exits, "SystemExit: 3"),
        (_hangs, "shutdown_fn has not returned within 0.3 s"),
        (_never, "shutdown_fn has not returned within 0.3 s"),
    ],
)
def test_a_worker_ends_whatever_its_shutdown_fn_does(shutdown, said):
    with Worker(bundle(shutdown_fn=shutdown), **SOON) as worker:
        worker.ready()
        worker.send(Kind.DRAIN, 0)
        assert worker.exit_code() == 0
        assert said in worker.log()


def test_the_hooks_of_a_bundle_of_directories_are_named_by_path():
    code = (
        "def load_model(config):\n    return config['x']\n"
        "def load_predict(config, model):\n    return lambda: model\n"
        "def healthy(model):\n    return model == 7\n"
        "def shutdown(model):\n    print('it leaves with', model)\n"
    )
    flavor = {
        "flavor": "zip_artifact",
        "load_model_fn_module_path": "own.load_model",
        "load_predict_fn_module_path": "own.load_predict",
        "health_fn_module_path": "own.healthy",
        "shutdown_fn_module_path": "own.shutdown",
    }
    files = zip_of({"own.py": code})
    with Worker(files, flavor | {"app_config": {"x": 7}}, **SOON) as worker:
        worker.ready()
        worker.send(Kind.DRAIN, 0)
        assert worker.exit_code() == 0
        assert "it leaves with 7" in worker.log()
    with Worker(files, flavor | {"app_config": {"x": 8}}, **SOON) as worker:
        assert worker.load_failure()["reason"] == "health_fn returned False"
