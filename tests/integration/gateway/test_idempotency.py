"""`Idempotency-Key`: the same request under the same key is run once, and answered the same again."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import httpx2
import pytest
from server_driver import DEADLINE, SMALL, args, eventually, http, running

from openlaunch import EndpointRequest
from openlaunch.errors import BadRequest, Unavailable, Unprocessable, WorkerDied

INLINE = 1024


def note(path, value=None, size=0, seconds=0.0, fail=False, die=False, until=None):
    """Notes that it ran, and then does what it is told to."""
    with Path(path).open("a") as file:
        file.write("ran\n")
    if until is not None:
        while not Path(until).exists():
            time.sleep(0.01)
    time.sleep(seconds)
    if die and len(Path(path).read_text().split()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if fail:
        raise ValueError("no")
    return value if not size else "x" * size


@pytest.fixture(scope="module")
def client():
    with running(inline_bytes=INLINE) as client:
        client.deploy(note, name="once", max_workers=1, per_worker=4, **SMALL)
        yield client


@pytest.fixture
def endpoint(client):
    return client.get_model_endpoint("once")


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def keyed(key, pickled=False, **values):
    return EndpointRequest(args=values, return_pickled=pickled, idempotency_key=key)


def times(path):
    return len(path.read_text().split()) if path.exists() else 0


def test_the_stored_answer_is_given_again(endpoint, runs):
    request = keyed("k-again", path=str(runs), value=7)
    assert [endpoint.predict(request).value for _ in range(3)] == [7, 7, 7]
    assert times(runs) == 1


def test_a_failure_of_the_model_is_an_answer_too(endpoint, runs):
    request = keyed("k-fail", path=str(runs), fail=True)
    first, second = endpoint.predict(request), endpoint.predict(request)
    assert first.status == second.status == "FAILURE"
    assert first.traceback == second.traceback
    assert times(runs) == 1


def test_another_body_is_refused(endpoint, runs):
    endpoint.predict(keyed("k-body", path=str(runs), value=1))
    with pytest.raises(Unprocessable, match="'k-body' was sent with another body") as caught:
        endpoint.predict(keyed("k-body", path=str(runs), value=2))
    assert caught.value.code == "idempotency_key_reused"
    assert times(runs) == 1


def test_another_endpoint_is_refused(client, endpoint, runs):
    request = keyed("k-endpoint", path=str(runs))
    endpoint.predict(request)
    other = client.deploy(note, name="once-more", **SMALL)
    with pytest.raises(Unprocessable, match="another endpoint"):
        other.predict(request)


def test_what_comes_while_the_first_runs_waits_for_its_answer(endpoint, runs, tmp_path):
    go = tmp_path / "go"
    request = keyed("k-wait", path=str(runs), value=5, until=str(go))
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(endpoint.predict(request).value)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    eventually(lambda: times(runs) == 1)
    with pytest.raises(Unprocessable):
        endpoint.predict(keyed("k-wait", path=str(runs), value=6))
    go.touch()
    for thread in threads:
        thread.join(DEADLINE)
    assert answers == [5, 5, 5]
    assert times(runs) == 1


def test_a_worker_that_died_has_not_answered(endpoint, runs):
    request = keyed("k-die", path=str(runs), value=3, die=True)
    with pytest.raises(WorkerDied):
        endpoint.predict(request)
    assert endpoint.predict(request).value == 3
    assert times(runs) == 2


def test_who_waits_for_a_client_that_goes_away_runs_it(client, endpoint, runs, tmp_path):
    go = tmp_path / "go"
    request = keyed("k-gone", path=str(runs), value=4, until=str(go))
    with http(client) as impatient:
        url = f"/v1/sync-tasks?model_endpoint_id={endpoint.model_endpoint.id}"
        headers = {"idempotency-key": "k-gone"}
        thread = threading.Thread(target=lambda: _given_up(impatient, url, request.body(), headers))
        thread.start()
        eventually(lambda: times(runs) == 1)
        answers = []
        second = threading.Thread(target=lambda: answers.append(endpoint.predict(request).value))
        second.start()
        thread.join(DEADLINE)
    eventually(lambda: times(runs) == 2)
    go.touch()
    second.join(DEADLINE)
    assert answers == [4]


def _given_up(raw, url, body, headers):
    with pytest.raises(httpx2.TimeoutException):
        raw.post(url, content=body, headers=headers, timeout=1)


def test_a_large_answer_is_kept_beside_the_database(client, endpoint, runs):
    request = keyed("k-large", path=str(runs), size=10 * INLINE)
    assert [endpoint.predict(request).value for _ in range(2)] == ["x" * 10 * INLINE] * 2
    assert times(runs) == 1
    assert len(list((client.server.data_dir / "artifacts" / "answers").iterdir())) == 1


def test_a_pickled_answer_has_a_url_each_time(endpoint, runs):
    request = keyed("k-pickle", pickled=True, path=str(runs), value=[1, 2])
    assert [endpoint.predict(request).value for _ in range(2)] == [[1, 2], [1, 2]]
    assert times(runs) == 1


def test_a_pickled_answer_that_has_no_place_is_an_error_and_is_tried_again(client, endpoint, runs):
    request = keyed("k-full", pickled=True, path=str(runs), value=[1, 2])
    results = client.server.data_dir / "artifacts" / "results"
    if results.exists():
        results.rename(results.with_name("away"))
    results.touch()  # a file, in which no other file can be
    with pytest.raises(Unavailable):
        endpoint.predict(request)
    results.unlink()
    assert endpoint.predict(request).value == [1, 2]


def test_keys_are_their_owners_own(client, runs):
    endpoint = client.deploy(note, name="once-public", public_inference=True, **SMALL)
    endpoint.predict(keyed("k-owner", path=str(runs), value=1))
    url = f"/v1/sync-tasks?model_endpoint_id={endpoint.model_endpoint.id}"
    with http(client, client.create_api_key("bob").api_key) as bob:
        body = args(path=str(runs), value=2).body()
        answer = bob.post(url, content=body, headers={"idempotency-key": "k-owner"})
    assert json.loads(answer.json()["result"]["result"]) == 2


def test_a_stream_can_not_have_one(client):
    def count(n):
        yield from range(n)

    endpoint = client.deploy(count, name="once-stream", **SMALL)
    with pytest.raises(BadRequest, match="can't have an Idempotency-Key"):
        endpoint.predict(keyed("k-stream", n=1))


def test_tasks_are_held_against_their_keys_too(client, runs):
    endpoint = client.deploy(note, name="once-async", endpoint_type="async", **SMALL)
    first = endpoint.predict(keyed("k-task", path=str(runs), value=1))
    assert endpoint.predict(keyed("k-task", path=str(runs), value=1)).async_task_id == first.async_task_id
    with pytest.raises(Unprocessable, match="'k-task' was sent with another body"):
        endpoint.predict(keyed("k-task", path=str(runs), value=2))
    url = f"/v1/async-tasks/bulk?model_endpoint_id={endpoint.model_endpoint.id}"
    with http(client) as raw:

        def submit(*values):
            requests = [args(path=str(runs), value=value).document() for value in values]
            return raw.post(url, json={"requests": requests}, headers={"idempotency-key": "k-bulk"})

        assert submit(1, 2).json() == submit(1, 2).json()
        assert submit(1, 2, 3).json()["code"] == "idempotency_key_reused"
        assert submit(1).status_code == 422
    assert first.get(DEADLINE).value == 1
    assert len(client.list_tasks("once-async").tasks) == 3


def test_an_answer_outlives_a_killed_server(tmp_path, runs):
    request = keyed("k-restart", path=str(runs), value=9)
    with running(tmp_path / "data") as client:
        endpoint = client.deploy(note, name="again", **SMALL)
        assert endpoint.predict(request).value == 9
        os.kill(client.server.pid, signal.SIGKILL)
    with running(tmp_path / "data") as client:
        assert client.get_model_endpoint("again").predict(request).value == 9
    assert times(runs) == 1
