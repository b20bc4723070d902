"""Whose work comes first: priorities among an owner's tasks, turns between owners."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from server_driver import DEADLINE, SMALL, args, eventually, http, running

from openlaunch import EndpointRequest
from openlaunch.errors import TooManyRequests, Unprocessable


def note(path, name, until=None):
    """Notes that it began, and then waits for a file where it is told to."""
    with Path(path).open("a") as file:
        file.write(f"{name}\n")
    while until is not None and not Path(until).exists():
        time.sleep(0.01)


def nap(seconds):
    time.sleep(seconds)


@pytest.fixture
def order(tmp_path):
    """The file in which runs are noted."""
    return tmp_path / "order"


@pytest.fixture(scope="module")
def one_at_a_time(client):
    """An endpoint that is open to everybody and runs one task at a time."""
    return client.deploy(
        note, name="turns", endpoint_type="async", public_inference=True, max_workers=1, per_worker=1, **SMALL
    )


def queued(client, endpoint):
    with http(client) as raw:
        return raw.get(f"/v1/model-endpoints/{endpoint.model_endpoint.id}").json()["num_queued_items"]


def begun(order):
    return order.read_text().split() if order.exists() else []


@pytest.fixture
def go(one_at_a_time, order, tmp_path):
    """The only slot is taken until this file is there."""
    file = tmp_path / "go"
    one_at_a_time.predict(args(path=str(order), name="first", until=str(file)))
    eventually(lambda: begun(order) == ["first"])
    return file


def test_an_owners_tasks_run_by_priority_and_then_by_arrival(one_at_a_time, order, go):
    wanted = [("low", -5), ("a", 0), ("high", 5), ("b", 0)]
    requests = [EndpointRequest(args={"path": str(order), "name": n}, priority=p) for n, p in wanted]
    futures = [*one_at_a_time.predict_many(requests[:2]), *map(one_at_a_time.predict, requests[2:])]
    go.touch()
    for future in futures:
        assert future.get(DEADLINE).status == "SUCCESS"
    assert begun(order) == ["first", "high", "a", "b", "low"]


def test_nobody_waits_for_all_that_another_has_sent(client, one_at_a_time, order, go):
    mine = one_at_a_time.predict_many(
        [EndpointRequest(args={"path": str(order), "name": f"a{n}"}, priority=9) for n in range(20)]
    )
    with http(client, client.create_api_key("bob").api_key) as bob:
        url = f"/v1/async-tasks/bulk?model_endpoint_id={one_at_a_time.model_endpoint.id}"
        requests = [args(path=str(order), name=f"b{n}").document() for n in range(2)]
        assert bob.post(url, json={"requests": requests}).status_code == 200
    go.touch()
    for future in mine:
        assert future.get(DEADLINE).status == "SUCCESS"
    turns = begun(order)[1:]
    # How many of the first were claimed ahead depends on how quick they are.
    assert {"b0", "b1"} <= set(turns[:10])
    assert [name for name in turns if name[0] == "a"] == [f"a{n}" for n in range(20)]


def test_sync_requests_of_several_owners_take_turns(client, order, tmp_path):
    endpoint = client.deploy(
        note, name="turns-sync", public_inference=True, max_workers=1, per_worker=1, **SMALL
    )
    go = tmp_path / "go"
    url = f"/v1/sync-tasks?model_endpoint_id={endpoint.model_endpoint.id}"
    with http(client, client.create_api_key("cyd").api_key) as cyd, ThreadPoolExecutor(12) as pool:
        first = pool.submit(endpoint.predict, args(path=str(order), name="first", until=str(go)))
        eventually(lambda: begun(order) == ["first"])
        waiting = [pool.submit(endpoint.predict, args(path=str(order), name=f"a{n}")) for n in range(8)]
        eventually(lambda: queued(client, endpoint) == 8)
        late = pool.submit(cyd.post, url, json=args(path=str(order), name="c").document())
        eventually(lambda: queued(client, endpoint) == 9)
        go.touch()
        assert late.result(DEADLINE).status_code == 200
        for future in [first, *waiting]:
            assert future.result(DEADLINE).status == "SUCCESS"
    assert "c" in begun(order)[1:4]


def test_nobody_can_fill_a_queue_alone(tmp_path):
    go = tmp_path / "go"
    with running(max_queued_tasks=20) as client:
        endpoint = client.deploy(
            note,
            name="full",
            endpoint_type="async",
            public_inference=True,
            max_workers=1,
            per_worker=1,
            **SMALL,
        )
        requests = [args(path=str(tmp_path / "order"), name=str(n), until=str(go)) for n in range(20)]
        futures = [endpoint.predict(requests[0])]
        eventually(lambda: begun(tmp_path / "order") == ["0"])
        futures += endpoint.predict_many(requests[1:19])
        with pytest.raises(TooManyRequests, match="the limit is 18, and 2 more of owners who have no more"):
            endpoint.predict(requests[19])
        with http(client, client.create_api_key("dot").api_key) as dot:
            url = f"/v1/async-tasks?model_endpoint_id={endpoint.model_endpoint.id}"
            answers = [dot.post(url, json=requests[19].document()) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        go.touch()
        for future in futures:
            assert future.get(DEADLINE).status == "SUCCESS"


def test_what_another_has_waiting_is_no_reason_to_refuse_a_task_that_will_have_its_turn(client):
    endpoint = client.deploy(
        nap,
        name="backlog",
        endpoint_type="async",
        public_inference=True,
        max_workers=1,
        per_worker=1,
        task_expires_seconds=3,
        **SMALL,
    )
    endpoint.predict_many([EndpointRequest(args={"seconds": 0.05}) for _ in range(300)])

    def refused():
        try:
            endpoint.predict(EndpointRequest(args={"seconds": 0.05}))
        except TooManyRequests as error:
            return error.code == "deadline_unreachable"
        return False

    eventually(refused)
    with http(client, client.create_api_key("eve").api_key) as eve:
        url = f"/v1/async-tasks?model_endpoint_id={endpoint.model_endpoint.id}"
        answer = eve.post(url, json={"args": {"seconds": 0}})
        assert answer.status_code == 200, answer.text
        got = eve.get(f"/v1/async-tasks/{answer.json()['task_id']}", params={"wait": 10}).json()
    assert got["status"] == "SUCCESS", got


def test_a_priority_is_within_bounds(one_at_a_time):
    with pytest.raises(Unprocessable, match="it is 101, a whole number from -100 to 100 is needed"):
        one_at_a_time.predict(EndpointRequest(args={"path": "", "name": ""}, priority=101))


def test_what_is_answered_at_once_has_no_priority(client):
    endpoint = client.deploy(note, name="no-priority", **SMALL)
    with pytest.raises(Unprocessable, match="priorities are for async endpoints"):
        endpoint.predict(EndpointRequest(args={"path": "", "name": ""}, priority=1))
