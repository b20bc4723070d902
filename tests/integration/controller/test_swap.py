"""Several models on one GPU, of which it is only said that it is there: real servers, workers and requests."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from openai_driver import mock_engine
from prometheus_client.parser import text_string_to_metric_families
from records import settings_of
from server_driver import DEADLINE, SMALL, args, eventually

from openlaunch import LaunchClient
from openlaunch.errors import OpenlaunchError

PROGRAM = Path(__file__).parents[2] / "data" / "one_gpu_server.py"
KEY = "a-key-for-this-test"


def napping(seconds=0.0):
    time.sleep(seconds)
    return os.environ["CUDA_VISIBLE_DEVICES"]


@contextmanager
def one_gpu(folder, **settings):
    """A client of a server with one GPU, whose endpoints are not scaled down in the time of a test."""
    given = {**settings_of(folder), "api_key": KEY, "scale_down_seconds": 600, **settings}
    environ = {**os.environ, **{f"OPENLAUNCH_{name.upper()}": str(value) for name, value in given.items()}}
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), "--port", "0", "--data-dir", str(folder)],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        url = eventually(lambda: address_in(log.read_text()))
        with LaunchClient(endpoint=url, api_key=KEY, max_retries=0) as client:
            yield client
    finally:
        process.terminate()
        process.wait(DEADLINE)


def address_in(text):
    found = [word for word in text.split() if word.startswith("http://127.0.0.1:")]
    return found[0].rstrip("/.,") if found else None


@pytest.fixture
def deployed(tmp_path):
    """A function that deploys a model with the GPU on a server with these settings."""
    servers = []

    def deploy(*names, **settings):
        server = one_gpu(tmp_path, **settings)
        client = server.__enter__()
        servers.append(server)
        return client, *[
            client.deploy(napping, name=name, gpus=1, min_workers=0, max_workers=1, **SMALL) for name in names
        ]

    yield deploy
    for server in servers:
        server.__exit__(None, None, None)


def test_models_take_turns_on_one_gpu(deployed):
    client, first, second = deployed("first", "second", gpu_min_stay_seconds=0)
    for endpoint in (first, second, first, second):
        assert endpoint.predict(args()).value == "0"
    assert first.deployment_state().available_workers == 0
    said = "from 1 to 0 workers, because another endpoint waits for GPUs"
    eventually(lambda: said in str(client.list_endpoint_events("first").events))
    assert numbers(client, "gpu_swaps_total") == {"first": 2, "second": 1}
    assert numbers(client, "gpu_wait_seconds_count") == {"first": 2, "second": 2}


def numbers(client, name):
    """Return what `/metrics` says, by the names of endpoints."""
    text = httpx2.get(f"{client.url}/metrics", auth=(KEY, ""), timeout=60).text
    families = text_string_to_metric_families(text)
    samples = [s for family in families for s in family.samples if s.name == f"openlaunch_{name}"]
    return {sample.labels["endpoint"]: sample.value for sample in samples}


def test_a_model_that_is_busy_ends_what_it_runs_and_gives_way_to_one_that_has_waited_for_long(deployed):
    client, busy, waiting = deployed("busy", "waiting", gpu_min_stay_seconds=0, gpu_max_wait_seconds=2)
    over, ended = threading.Event(), []

    def keep_busy():
        while not over.is_set():
            ended.append(busy.predict(args(seconds=0.5)).value)

    busy.predict(args())
    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        eventually(lambda: ended)
        answers = []
        asking = threading.Thread(target=lambda: answers.append(waiting.predict(args()).value))
        asking.start()
        why = eventually(lambda: reasons(client, "waiting"))
        assert "the endpoint 'busy' is busy and gives up its GPUs once it is idle, or in" in why[0]
        asking.join(DEADLINE)
        assert answers == ["0"]
    finally:
        over.set()
        thread.join(DEADLINE)
    assert set(ended) == {"0"}  # none was cut off


def reasons(client, name):
    """Return what an endpoint says of GPUs that it waits for."""
    return [each.message for each in client.explain_endpoint(name).reasons if each.code == "waits_for_gpus"]


def test_a_model_keeps_its_gpu_for_a_while(deployed):
    client, first, second = deployed("first", "second", gpu_min_stay_seconds=600)
    first.predict(args())
    threading.Thread(target=asking, args=(second,), daemon=True).start()
    idle = "the endpoint 'first' is idle and gives up its GPUs in "
    eventually(lambda: any(idle in each for each in reasons(client, "second")))
    assert first.deployment_state().available_workers == 1


def asking(endpoint):
    with suppress(OpenlaunchError):  # the server ends before it is served
        endpoint.predict(args())


CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def gpu_client(tmp_path_factory):
    with one_gpu(tmp_path_factory.mktemp("sleep"), gpu_min_stay_seconds=0) as client:
        yield client


def engines(client, **environs):
    """Deploy engines with vLLM's sleep routes, and return a function that asks one how often it was asked."""
    for name, env in environs.items():
        mock_engine(client, name, env=env, gpus=1, min_workers=0, max_workers=1, sleep={})

    def ask(name):
        body = {"model": name, "seen": True}
        answer = httpx2.post(f"{client.url}{CHAT}", json=body, auth=(KEY, ""), timeout=DEADLINE).json()
        return json.loads(answer["choices"][0]["message"]["content"])["requests"]

    return ask


def events_of(client, name):
    return [event.kind.value for event in client.list_endpoint_events(name).events]


def test_an_engine_sleeps_while_another_one_has_its_gpu_and_need_not_load_again(gpu_client):
    client, ask = gpu_client, engines(gpu_client, a={"LOAD_SECONDS": "0.5"}, b={})
    assert [ask(name) for name in "abab"] == [1, 1, 2, 2]
    for name in "ab":
        assert events_of(client, name).count("worker_started") == 1
    assert "worker_woken" in events_of(client, "b")
    assert [worker.phase.value for worker in client.list_endpoint_workers("a")] == ["asleep"]
    assert "the first request wakes one up that sleeps" in client.explain_endpoint("a").reasons[0].message
    swaps = numbers(client, "gpu_swaps_total")
    assert (swaps["a"], swaps["b"]) == (2, 1)

    client.edit_model_endpoint(model_endpoint="a", env={"OTHER": "1"})  # it is of an older generation
    eventually(lambda: not client.list_endpoint_workers("a"))
    assert ask("a") == 1


def test_an_engine_that_can_not_sleep_or_wake_up_ends_and_the_next_one_loads(gpu_client):
    client, ask = gpu_client, engines(gpu_client, c={"REST_FAULT": "500"}, d={"WAKE_FAULT": "500"})
    assert [ask(name) for name in "cdcd"] == [1, 1, 1, 1]
    assert (
        "could not fall asleep, and ends: POST /sleep?level=1 answered 500"
        in client.read_endpoint_creation_logs("c")
    )
    assert "could not wake up, and ends: POST /wake_up answered 500" in client.read_endpoint_creation_logs(
        "d"
    )


@pytest.mark.slow
def test_engines_for_which_there_is_no_memory_do_not_sleep(tmp_path):
    with one_gpu(tmp_path, gpu_min_stay_seconds=0, gpu_sleep_bytes=0) as client:
        ask = engines(client, a={}, b={})
        assert [ask(name) for name in "aba"] == [1, 1, 1]
        assert "worker_asleep" not in events_of(client, "a")
