"""What a server counts of its endpoints, and tells of their last minute, hour, day and two weeks."""

import time

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
