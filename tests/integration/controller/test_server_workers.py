"""Workers that die, hang, can't load or look around where they should not."""

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest
from http_service import http_service
from records import ON_POSTGRES, execute
from server_driver import DEADLINE, SMALL, args, eventually, http, is_alive, running, send_signal

from openlaunch import EndpointRequest
from openlaunch.errors import DeadlineExceeded, EndpointFailed, Unavailable, WorkerDied

SECRET = "the-key-that-no-worker-may-see"


@pytest.fixture(scope="module")
def client():
    with running(api_key=SECRET, task_max_attempts=3) as client:
        yield client


def worker_then_nap(seconds=0.0):
    if seconds:
        time.sleep(seconds)
    return f"{os.getcwd()}:{os.getpid()}"


def kill_soon(worker):
    threading.Timer(0.3, send_signal, (worker, signal.SIGKILL)).start()


def test_a_sync_request_whose_worker_is_killed_fails_and_the_next_one_works(client):
    endpoint = client.deploy(worker_then_nap, name="wo-sync", max_workers=1, per_worker=1, **SMALL)
    victim = endpoint.predict(args()).value
    kill_soon(victim)
    began = time.monotonic()
    with pytest.raises(WorkerDied, match="signal 9"):
        endpoint.predict(args(seconds=20))
    assert time.monotonic() - began < 5
    assert endpoint.predict(args()).value != victim
    eventually(lambda: "signal 9" in (endpoint.refresh().model_endpoint.status_reason or ""))


def test_a_stream_whose_worker_is_killed_ends_with_a_failure(client):
    def count():
        yield f"{os.getcwd()}:{os.getpid()}"
        time.sleep(20)
        yield 2

    stream = client.deploy(count, name="wo-stream", **SMALL).predict(args())
    kill_soon(next(stream).value)
    (last,) = list(stream)
    assert last.status == "FAILURE"
    assert "signal 9" in last.traceback


def test_a_task_whose_worker_is_killed_runs_again(client, tmp_path):
    def once(path):
        with Path(path).open("a") as file:
            file.write(f"{os.getcwd()}\n")
        if len(Path(path).read_text().splitlines()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    endpoint = client.deploy(once, name="wo-task", endpoint_type="async", **SMALL)
    path = tmp_path / "attempts"
    assert endpoint.predict(args(path=str(path))).get(DEADLINE).value == "done"
    assert len(set(path.read_text().split())) == 2


def test_a_task_that_keeps_killing_its_worker_ends_as_a_failure_with_the_reason(client):
    def poison():
        os.kill(os.getpid(), signal.SIGKILL)

    endpoint = client.deploy(poison, name="wo-poison", endpoint_type="async", **SMALL)
    response = endpoint.predict(args()).get(60)
    assert response.status == "FAILURE"
    assert "signal 9" in response.traceback
    assert "attempt 3 of 3" in response.traceback


def test_an_endpoint_that_can_not_load_refuses_at_once_and_says_why(client):
    def load():
        raise RuntimeError("no weights here")

    with pytest.raises(EndpointFailed, match="no weights here"):
        client.deploy(lambda model: 1, name="wo-broken", load_model_fn=load, **SMALL)
    endpoint = client.get_model_endpoint("wo-broken")
    with pytest.raises(Unavailable, match="no weights here"):
        endpoint.predict(args())


def test_a_worker_that_exits_while_it_loads_is_reported_with_its_last_words(client):
    def load():
        print("these are my last words", flush=True)
        os._exit(7)

    with pytest.raises(EndpointFailed, match="exited with code 7") as caught:
        client.deploy(lambda model: 1, name="wo-exit", load_model_fn=load, **SMALL)
    assert "these are my last words" in str(caught.value)


def test_requirements_that_do_not_exist_fail_with_the_installers_words(client):
    with pytest.raises(EndpointFailed, match="no-such-package-of-ours"):
        client.deploy(lambda: 1, name="wo-needs", requirements=["no-such-package-of-ours==1.2.3"], **SMALL)
    assert "no-such-package-of-ours" in client.read_endpoint_creation_logs("wo-needs")


def test_a_worker_sees_no_secret_of_the_server(client):
    def look():
        import sys

        return {"environ": dict(os.environ), "modules": sorted(sys.modules), "path": sys.path}

    seen = client.deploy(look, name="wo-look", **SMALL).predict(args()).value
    assert SECRET not in str(seen["environ"])
    assert "OPENLAUNCH_API_KEY" not in seen["environ"]
    assert not [name for name in seen["modules"] if name.partition(".")[0] == "openlaunch"]


def test_what_a_model_prints_is_in_the_endpoints_logs(client):
    def shout(text):
        print(text)
        return len(text)

    endpoint = client.deploy(shout, name="wo-print", **SMALL)
    endpoint.predict(args(text="hello from the model"))
    eventually(lambda: "hello from the model" in client.read_endpoint_logs("wo-print"))


def test_a_client_that_goes_away_frees_its_slot(client):
    async def rest(seconds):
        await asyncio.sleep(seconds)
        return "rested"

    endpoint = client.deploy(rest, name="wo-away", max_workers=1, per_worker=1, **SMALL)
    with http(client) as raw, pytest.raises(httpx2.ReadTimeout):
        raw.post(
            "/v1/sync-tasks",
            params={"model_endpoint_id": endpoint.model_endpoint.id},
            json={"args": {"seconds": 600}},
            timeout=0.5,
        )
    assert endpoint.predict(args(seconds=0), timeout=5).value == "rested"


def test_a_stream_that_is_closed_early_stops_the_model(client, tmp_path):
    def tick(path):
        try:
            for i in range(100_000):
                yield i
                time.sleep(0.01)
        finally:
            Path(path).touch()

    path = tmp_path / "stopped"
    endpoint = client.deploy(tick, name="wo-close", **SMALL)
    with endpoint.predict(args(path=str(path))) as stream:
        assert next(stream).value == 0
    eventually(path.exists)


def test_a_predict_function_gets_the_bytes_of_a_url(client, tmp_path):
    import http.server
    from functools import partial

    (tmp_path / "input.bin").write_bytes(b"\x00\x01\x02")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None
    with http_service(handler) as files:
        endpoint = client.deploy(lambda data: list(data), name="wo-url", **SMALL)
        url = f"http://127.0.0.1:{files.server_port}/input.bin"
        assert endpoint.predict(EndpointRequest(url=url)).value == [0, 1, 2]


def test_deleting_an_endpoint_ends_its_workers_and_its_tasks(client):
    endpoint = client.deploy(
        worker_then_nap, name="wo-delete", endpoint_type="async", max_workers=1, per_worker=1, **SMALL
    )
    worker = endpoint.predict(args()).get(DEADLINE).value
    futures = endpoint.predict_many([args(seconds=0.5) for _ in range(3)])
    client.delete_model_endpoint("wo-delete")
    responses = [future.get(DEADLINE) for future in futures]
    assert {r.status for r in responses[1:]} == {"FAILURE"}
    assert "was deleted" in responses[-1].traceback
    eventually(lambda: not is_alive(worker))


@pytest.mark.skipif(ON_POSTGRES, reason="there a task is no single row")
def test_a_task_that_the_server_has_lost_sight_of_runs_after_its_lease():
    with running(lease_seconds=1.5) as client:
        endpoint = client.deploy(worker_then_nap, name="wo-lease", endpoint_type="async", **SMALL)
        endpoint.predict(args()).get(DEADLINE)
        execute(
            client.server.data_dir,
            "INSERT INTO tasks (id, endpoint_id, owner, status, priority, payload, created_at, expires_at,"
            " lease_owner, lease_until, attempts, max_attempts, return_pickled) SELECT 'lost', endpoint_id, owner,"
            """ 'STARTED', 0, CAST('{"args": {}}' AS BLOB), created_at, expires_at, 'somebody', created_at, 1, 3, 0"""
            " FROM tasks",
        )
        assert client.future("lost").get(DEADLINE).status == "SUCCESS"


def test_a_stopped_worker_gets_no_requests_until_it_is_replaced():
    with running(interrupt_grace_seconds=1) as client:
        endpoint = client.deploy(worker_then_nap, name="wo-stopped", max_workers=1, per_worker=2, **SMALL)
        stopped = endpoint.predict(args()).value
        send_signal(stopped, signal.SIGSTOP)
        with pytest.raises(DeadlineExceeded):
            endpoint.predict(args(), timeout=1)
        began = time.monotonic()
        assert endpoint.predict(args(), timeout=60).value != stopped
        assert time.monotonic() - began < 20  # on the stopped one it would have failed after 30 s
        eventually(lambda: not is_alive(stopped))


def test_a_worker_is_replaced_after_its_number_of_requests_and_none_is_refused(client):
    options = {"max_workers": 2, "min_workers": 2, "per_worker": 1, "max_requests_per_worker": 5}
    endpoint = client.deploy(worker_then_nap, name="wo-worn", **SMALL | options)
    answered: list[str] = []

    def has_been_replaced():
        answered.append(endpoint.predict(args()).value)
        return len(set(answered)) >= 4

    eventually(has_been_replaced)
    first = answered[0]
    assert answered.count(first) >= 5
    assert endpoint.refresh().model_endpoint.deployment_state.max_requests_per_worker == 5
    eventually(lambda: "it has had 5 requests" in str(client.list_endpoint_events("wo-worn").events))


def test_a_worker_is_replaced_at_its_age_and_no_request_is_refused(client):
    endpoint = client.deploy(
        worker_then_nap, name="wo-old", min_workers=1, max_workers=1, max_worker_age=1, **SMALL
    )
    seen = set()

    def has_been_replaced():
        seen.add(endpoint.predict(args()).value)
        return len(seen) >= 2

    eventually(has_been_replaced)
    eventually(lambda: "it is 1 s old" in str(client.list_endpoint_events("wo-old").events))
    client.edit_model_endpoint(model_endpoint="wo-old", max_worker_age=0)


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not bound a process's memory")
def test_a_worker_whose_memory_is_used_up_is_replaced_after_one_failure(client):
    def load():
        return []

    def leak(kept):
        def predict():
            kept.append(bytearray(45 << 20))  # of 128 MiB, of which Python takes some 30
            return f"{os.getcwd()}:{os.getpid()}"

        return predict

    bundle = client.create_model_bundle_from_callable_v2(
        model_bundle_name="wo-leak", load_model_fn=load, load_predict_fn=leak
    )
    client.create_model_endpoint(
        endpoint_name="wo-leak", model_bundle=bundle, endpoint_type="sync", **SMALL | {"memory": "128Mi"}
    )
    endpoint = client.get_model_endpoint("wo-leak").wait_until_ready(DEADLINE)
    ends = [endpoint.predict(args()) for _ in range(10)]
    failed = [number for number, end in enumerate(ends) if end.status == "FAILURE"]
    assert failed
    assert all(ends[number + 1].status == "SUCCESS" for number in failed if number + 1 < len(ends))
    assert "give the endpoint more `memory`" in ends[failed[0]].traceback
