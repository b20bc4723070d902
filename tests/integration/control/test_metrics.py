"""What a server counts of its endpoints, and tells of their last minute, hour, day and two weeks."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from server_driver import SMALL, args, eventually, http, problem, running

from openlaunch.errors import NotFound, Unprocessable


def work(how="", seconds=0.0):
    if how == "raise":
        raise LookupError("no such row")
    time.sleep(seconds)
    return how


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with running(tmp_path_factory.mktemp("metrics")) as client:
        yield client


@pytest.fixture(scope="module")
def endpoint(client):
    return client.deploy(work, name="counted", max_workers=1, per_worker=4, **SMALL)


def sums(client, name, last="1h"):
    """How many predictions have ended in each way, of those that did."""
    series = client.get_endpoint_metrics(name, last).series
    return {way: sum(values) for way, values in series.items() if way[0] not in "pwr" and sum(values)}


@pytest.mark.slow
def test_each_end_of_a_prediction_is_counted_once(client, endpoint):
    for how in ("", "", "", "raise"):
        endpoint.predict(args(how=how))
    with http(client) as raw:
        path = f"/v1/sync-tasks?model_endpoint_id={endpoint.model_endpoint.id}"
        problem(raw.post(path, content=b"{"), 400)
        problem(raw.post(path, json={"args": {"seconds": 30}, "timeout_seconds": 0.2}), 504)
    expected = {"ok": 3, "model_error": 1, "4xx": 1, "deadline": 1}
    eventually(lambda: sums(client, "counted") == expected)
    last_minute = client.list_metrics()[0]
    assert (last_minute.name, last_minute.rate) == ("counted", 0.1)
    assert 0 < last_minute.p50 <= last_minute.p99
    assert last_minute.failure_rate == pytest.approx(2 / 60, abs=0.001)
    assert last_minute.sparkline[-1] + last_minute.sparkline[-2] == 6


@pytest.mark.slow
def test_all_that_is_counted_is_shown(client):
    endpoint = client.deploy(work, name="shown", max_workers=1, **SMALL)
    before = client.get_endpoint_metrics("shown").since_start
    endpoint.predict(args(how="x" * 1000))
    with http(client) as raw:
        path = f"/v1/sync-tasks?model_endpoint_id={endpoint.model_endpoint.id}"
        problem(raw.post(path, content=b"{"), 400)
    after = client.get_endpoint_metrics("shown").since_start
    assert after.ended["ok"] - before.ended["ok"] == 1
    assert sum(after.errors.values()) - sum(before.errors.values()) == 1
    assert after.request_bytes - before.request_bytes >= 1000 <= after.response_bytes - before.response_bytes
    assert after.times["ran"].count - before.times["ran"].count == 1
    assert 0 < after.times["ran"].p50 <= after.times["whole"].p99
    assert {name: after.times[name].count for name in ("build", "process", "load")} == {
        "build": 1,
        "process": 1,
        "load": 1,
    }
    assert after.events["worker_ready"] == 1

    def items(n):
        yield from range(n)

    stream = client.deploy(items, name="items", endpoint_type="streaming", max_workers=1, **SMALL)
    assert len(list(stream.predict(args(n=3)))) == 3
    assert eventually(lambda: client.get_endpoint_metrics("items").since_start.times["first_item"].count) == 1

    def die():
        import os

        os.kill(os.getpid(), 9)

    later = client.deploy(die, name="later", endpoint_type="async", max_workers=1, **SMALL)
    later.predict(args()).get(timeout=60)
    counted = client.get_endpoint_metrics("later").since_start
    assert (counted.submitted, counted.retries, counted.dead_letters) == (1, 2, 1)
    assert counted.events["worker_crashed"] == counted.worker_ends["killed"] == 3


def test_an_unknown_range_or_endpoint_is_refused_with_a_sentence(client, endpoint):
    with pytest.raises(Unprocessable) as refused:
        client.get_endpoint_metrics("counted", "2h")
    assert "'1h', '24h' or '14d'" in str(refused.value.errors)
    with pytest.raises(NotFound):
        client.get_endpoint_metrics("nobody")
    with http(client) as raw:
        problem(raw.get(f"/v1/model-endpoints/{endpoint.model_endpoint.id}/metrics/latency"), 404)


def test_another_owner_sees_no_numbers(client, endpoint):
    key = client.create_api_key("eve").api_key
    with http(client, key) as raw:
        problem(raw.get(f"/v1/model-endpoints/{endpoint.model_endpoint.id}/metrics"), 404)
        assert raw.get("/v1/metrics").json() == {"endpoints": []}
        problem(raw.get("/v1/metrics?owner=admin"), 403)


@pytest.mark.slow
def test_what_was_counted_is_there_after_a_restart(tmp_path):
    with running(tmp_path) as client:
        client.deploy(work, name="kept", max_workers=1, **SMALL).predict(args())
        eventually(lambda: sums(client, "kept") == {"ok": 1})
    with running(tmp_path) as client:
        assert eventually(lambda: sums(client, "kept")) == {"ok": 1}
        assert sums(client, "kept", "24h") == {"ok": 1}


@pytest.mark.slow
def test_the_workers_of_an_endpoint_are_listed_with_what_they_run(client, endpoint):
    (worker,) = eventually(lambda: client.list_endpoint_workers("counted"))
    assert (worker.phase, worker.running, worker.slots, worker.node) == ("ready", 0, 4, "")
    assert worker.started_at <= worker.since
    with http(client) as raw:
        path = f"/v1/sync-tasks?model_endpoint_id={endpoint.model_endpoint.id}"
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(raw.post, path, json={"args": {"seconds": 2}})
            eventually(lambda: client.list_endpoint_workers("counted")[0].running == 1)
            assert slow.result().status_code == 200
    with pytest.raises(NotFound):
        client.list_endpoint_workers("nobody")


@pytest.mark.slow
def test_a_server_that_is_alone_says_what_it_has_for_workers(client):
    found = client.list_servers()
    assert [(each.here, each.leads) for each in found.servers] == [(True, True)]
    assert found.servers[0].address == client.server.url
    assert found.cpus > 0
    assert found.memory > 0
    assert found.gpus == len(found.gpu_use) == found.free_gpus
    numbers = found.numbers
    assert 0 < numbers.commits.p50 <= numbers.commits.p99
    assert numbers.operations >= 1 <= numbers.connections <= numbers.max_connections
    assert numbers.memory > 1_000_000
    assert numbers.open_files > 10
    assert eventually(lambda: client.list_servers().numbers.event_loop_lag.count)


@pytest.mark.slow
def test_the_page_asks_for_one_answer_and_then_for_the_points_after_it(client, endpoint):
    endpoint.predict(args(how="seen"))
    path = f"/page/endpoints/{endpoint.model_endpoint.id}"
    with http(client) as raw:
        seen = eventually(lambda: (found := raw.get(path).json()) and found["points"]["at"] and found)
        assert (seen["endpoint"]["name"], len(seen["workers"])) == ("counted", 1)
        assert seen["why"]["ready_workers"] == 1
        last = seen["points"]["at"][-1]
        assert all(at > last for at in raw.get(f"{path}?after={last}").json()["points"]["at"])
        assert raw.get(f"{path}?range=24h").json()["points"]["range"] == "24h"
        problem(raw.get(f"{path}?range=2h"), 422)
    other = client.create_api_key("somebody").api_key
    with http(client, other) as raw:
        problem(raw.get(path), 404)
