"""What a server tells of its endpoints: their events, why they serve or do not, and their logs as they grow."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from itertools import islice

import httpx2
import pytest
from server_driver import DEADLINE, SMALL, args, eventually, http, running

from openlaunch import aio
from openlaunch.errors import BadRequest, NotFound, Unavailable


def work(seconds=0.0, text="", die=0):
    if text:
        print(text, flush=True)
    if die:
        os.kill(os.getpid(), die)
    time.sleep(seconds)
    return os.getpid()


def never():
    raise RuntimeError("the weights are not there")


def fail_to_load():
    never()


@pytest.fixture(scope="module")
def client():
    with running(task_max_attempts=1, scale_down_seconds=1) as client:
        yield client


@pytest.fixture(scope="module")
def endpoint(client):
    return client.deploy(
        work, name="work", endpoint_type="async", min_workers=1, max_workers=1, per_worker=1, **SMALL
    )


@pytest.fixture(scope="module")
def broken(client):
    """An endpoint whose bundle can't be loaded."""
    return client.deploy(
        work, name="broken", load_model_fn=fail_to_load, endpoint_type="async", wait=False, **SMALL
    )


def messages(client, name):
    return [event.message for event in client.list_endpoint_events(name).events]


def command(client, *arguments):
    environ = {
        **os.environ,
        "OPENLAUNCH_URL": client.server.url,
        "OPENLAUNCH_API_KEY": client.server.api_key,
        "PYTHONUNBUFFERED": "1",
    }
    return [sys.executable, "-m", "openlaunch.cli", *arguments], environ


def run(client, *arguments):
    words, environ = command(client, *arguments)
    return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=DEADLINE)


# Events.


def test_a_life_is_told_from_its_beginning(client, endpoint):
    told = eventually(lambda: [m for m in [messages(client, "work")] if any("rolled out" in t for t in m)])[0]
    order = ["created", "environment is being built", "environment is built", "1 worker started"]
    found = [next(i for i, message in enumerate(told) if text in message) for text in order]
    assert found == sorted(found)
    assert any("1 worker became ready" in message for message in told)


def test_equal_events_are_one_with_a_count(client, endpoint):
    for _ in range(3):
        endpoint.predict(args(die=signal.SIGSEGV)).get(DEADLINE)
    expected = f"3 workers crashed: killed by signal {signal.SIGSEGV:d} (SIGSEGV)"
    eventually(lambda: expected in messages(client, "work"))


def test_a_sigkill_is_out_of_memory_only_where_the_kernel_says_so(client, endpoint):
    endpoint.predict(args(die=signal.SIGKILL)).get(DEADLINE)
    (told,) = eventually(lambda: [m for m in messages(client, "work") if "killed by signal 9" in m])
    assert "memory" not in told


def test_new_events_are_waited_for(client, endpoint):
    cursor, kinds = client.list_endpoint_events(endpoint).cursor, []
    threading.Timer(0.3, client.restart_model_endpoint, [endpoint]).start()
    while "restarted" not in kinds:  # a worker of an earlier test may have news first
        page = client.list_endpoint_events(endpoint, cursor, wait=DEADLINE)
        assert int(page.cursor) > int(cursor)
        cursor, kinds = page.cursor, [event.kind for event in page.events]
        assert kinds


def test_a_wait_without_events_ends_with_the_same_cursor(client, broken):
    page = client.list_endpoint_events(broken, "999999999", wait=0.1)
    assert (page.events, page.cursor) == ([], "999999999")


def test_a_bundle_that_can_not_be_loaded_is_told_with_the_reason(client, broken):
    eventually(lambda: any("the weights are not there" in m for m in messages(client, "broken")))
    eventually(lambda: any("the update failed" in message for message in messages(client, "broken")))


def test_scaling_is_told_with_its_reason(client):
    endpoint = client.deploy(work, name="scales", min_workers=0, max_workers=1, **SMALL)
    endpoint.predict(args())
    eventually(lambda: any("scaled up: from 0 to 1" in m for m in messages(client, "scales")))
    eventually(lambda: any("scaled down: from 1 to 0" in m for m in messages(client, "scales")))
    why = eventually(lambda: (w := client.explain_endpoint("scales")).pending and w)
    assert [reason.code for reason in why.reasons] == ["idle"]


def test_somebody_elses_endpoint_tells_nothing(client, endpoint):
    key = client.create_api_key("eve", role="user").api_key
    task = endpoint.predict(args()).async_task_id
    with http(client, key) as other:
        for path in ("events", "why", "logs?follow=true"):
            assert other.get(f"/v1/model-endpoints/{endpoint.model_endpoint.id}/{path}").status_code == 404
        assert other.get(f"/v1/async-tasks/{task}/why").status_code == 404


@pytest.mark.parametrize("query", ["after=-1", "after=x", "wait=61", "limit=0", "limit=201"])
def test_queries_that_are_not_allowed_are_refused(client, endpoint, query):
    with http(client) as raw:
        answer = raw.get(f"/v1/model-endpoints/{endpoint.model_endpoint.id}/events?{query}")
    assert answer.status_code == 422


# Why.


def test_a_task_knows_whether_it_runs_and_when_it_has_ended(client, endpoint):
    future = endpoint.predict(args(seconds=0.5))
    eventually(lambda: "it runs in a worker" in client.explain_task(future.async_task_id).message)
    future.get(DEADLINE)
    done = client.explain_task(future.async_task_id)
    assert (done.status, done.ahead, done.endpoint) == ("SUCCESS", None, None)


def test_a_bundle_that_can_not_be_loaded_says_when_it_is_tried_again(client, broken):
    task = broken.predict(args()).async_task_id
    why = eventually(
        lambda: next((r for r in client.explain_endpoint("broken").reasons if r.code == "can_not_load"), None)
    )
    assert "the weights are not there" in why.message
    eventually(lambda: any(r.next_try_in for r in client.explain_endpoint("broken").reasons))
    assert "the weights are not there" in client.explain_task(task).message


def test_a_task_in_the_queue_knows_its_place_and_what_it_waits_for(client):
    endpoint = client.deploy(
        work, name="off", endpoint_type="async", min_workers=0, max_workers=0, wait=False, **SMALL
    )
    assert [reason.code for reason in client.explain_endpoint("off").reasons] == ["max_workers_zero"]
    tasks = [future.async_task_id for future in endpoint.predict_many([args()] * 3)]
    why = client.explain_task(tasks[2])
    assert (why.status, why.ahead, why.ahead_exceeds, why.attempts) == ("PENDING", 2, False, 0)
    assert "max_workers is 0" in why.message
    assert "2 tasks are before it" in why.message
    assert why.expires_at is not None
    client.cancel_task(tasks[0])
    assert client.explain_task(tasks[2]).ahead == 1
    cancelled = client.explain_task(tasks[0])
    assert cancelled.status == "FAILURE"
    assert "cancelled" in cancelled.message


def test_an_unknown_task_is_not_found(client):
    with pytest.raises(NotFound, match="no task has the id"):
        client.explain_task("nothing")


# Logs.


@contextmanager
def collected(client, name):
    """The lines of an endpoint as they come, in a list that grows."""
    lines = []
    with client.follow_endpoint_logs(name, 1) as stream:
        threading.Thread(target=_collect, args=(stream, lines), daemon=True).start()
        yield lines


def _collect(stream, lines):
    with suppress(Exception):  # the test closes it
        for line in stream:
            lines.append(line)


def test_reading_and_following_give_the_same_lines_and_choose_them_alike(client, endpoint):
    for number in range(5):
        endpoint.predict(args(text=f"numbered {number}")).get(DEADLINE)
    eventually(lambda: "numbered 4" in client.read_endpoint_logs(endpoint))

    def followed(count, **part):
        with client.follow_endpoint_logs(endpoint, **part) as stream:
            return [f"{line.at} {line}" for line in islice(stream, count)]

    for part in ({}, {"lines": 3}, {"since": "1h", "lines": 2}):
        read = client.read_endpoint_logs(endpoint, timestamps=True, **part).splitlines()
        assert len(read) == part.get("lines", len(read))
        assert read[-1].endswith("numbered 4")
        assert followed(len(read), **part) == read
    at = read[-1].partition(" ")[0]
    assert client.read_endpoint_logs(endpoint, since=at).endswith("numbered 4\n")
    assert "numbered 4" not in client.read_endpoint_logs(endpoint, until=at)
    assert client.read_endpoint_logs(endpoint, lines=0) == ""
    with pytest.raises(BadRequest, match="'yesterday' is not a time: give how long ago"):
        client.read_endpoint_logs(endpoint, since="yesterday")


def test_lines_of_all_workers_come_as_they_are_written_those_of_new_ones_too(client, endpoint):
    with collected(client, "work") as lines:
        endpoint.predict(args(text="first line")).get(DEADLINE)
        eventually(lambda: any(line.line == "first line" for line in lines))
        endpoint.predict(args(die=signal.SIGSEGV)).get(DEADLINE)
        endpoint.predict(args(text="of another")).get(DEADLINE)
        eventually(lambda: any(line.line == "of another" for line in lines))
    workers = {line.line: line.worker for line in lines if line.line in ("first line", "of another")}
    assert len(set(workers.values())) == 2
    assert all(len(worker) == 8 for worker in workers.values())


def test_a_stream_ends_with_its_endpoint_and_lets_go_when_its_reader_does(client):
    endpoint = client.deploy(work, name="brief", min_workers=1, max_workers=1, **SMALL)
    endpoint.predict(args(text="to be seen"))

    async def follow():
        async with (
            aio.LaunchClient(client.server.api_key, client.server.url) as other,
            await other.follow_endpoint_logs("brief") as stream,
        ):
            seen = []
            async for line in stream:
                if line.line == "to be seen":
                    seen.append(line)
                    await other.delete_model_endpoint("brief")
            return seen

    assert len(asyncio.run(follow())) == 1


def test_more_followers_than_allowed_are_refused_and_gone_ones_make_room(client, endpoint):
    url = f"/v1/model-endpoints/{endpoint.model_endpoint.id}/logs?follow=true"
    with http(client) as raw:
        open_ones = [raw.send(raw.build_request("GET", url), stream=True) for _ in range(100)]
        with http(client) as another:
            refused = another.get(url)
        assert refused.status_code == 429
        assert "100" in refused.json()["detail"]
        for response in open_ones:
            response.close()
        eventually(lambda: _follows(raw, url))


def _follows(raw, url):
    with raw.stream("GET", url) as response:
        return response.status_code == 200


# The command.


def test_the_command_shows_events_and_reasons(client, endpoint, broken):
    shown = run(client, "endpoints", "events", "work").stdout
    assert "created" in shown
    assert "the environment is built" in shown
    why = run(client, "endpoints", "why", "broken").stdout
    assert "it can't be loaded" in why
    assert re.search(r"^\d+ \w+ ago: the update failed: ", why, re.MULTILINE)
    future = endpoint.predict(args())
    future.get(DEADLINE)
    assert run(client, "tasks", "why", future.async_task_id).stdout.startswith("SUCCESS: ")


def test_the_command_follows_events(client, endpoint):
    words, environ = command(client, "endpoints", "events", "work", "--follow")
    with subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        client.restart_model_endpoint("work")
        try:
            assert any("restarted" in line for line in process.stdout)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130


def test_a_stopping_server_ends_what_follows_and_is_not_ready():
    with running() as client:
        endpoint = client.deploy(work, name="last", endpoint_type="sync", max_workers=1, **SMALL)
        with client.follow_endpoint_logs("last") as stream:
            threading.Thread(target=_predict_slowly, args=(endpoint,)).start()
            eventually(lambda: client.explain_endpoint("last").in_flight == 1)
            began = time.monotonic()
            os.kill(client.server.pid, signal.SIGTERM)
            list(stream)
            assert time.monotonic() - began < 5
            answer = httpx2.get(f"{client.server.url}/readyz", timeout=DEADLINE)
        assert answer.status_code == 503
        assert "stopping" in answer.text
        assert client.server._process.wait(DEADLINE) == 0


def _predict_slowly(endpoint):
    with suppress(Unavailable):
        endpoint.predict(args(seconds=3.0))
