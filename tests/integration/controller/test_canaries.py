"""Canaries, and new bundles that are rolled back: who gets which predictions, and what is shown of it."""

import asyncio
import os
import signal
import threading
import time

import pytest
from server_driver import DEADLINE, SMALL, args, eventually, http, is_alive, running, send_signal

from openlaunch import aio
from openlaunch.errors import Conflict, EndpointFailed, Unprocessable

RULE = {"rollback_after_failures": 3, "probation_requests": 10}


def failing():
    raise ValueError("no such weather")


def dying():

    os._exit(7)


def saying(word):
    """A predict function that says a word, and what its process calls itself."""

    def predict():

        return [word, f"{os.getcwd()}:{os.getpid()}"]

    return predict


def bundle_of(client, name, function, load=lambda: None):
    return client.create_model_bundle_from_callable_v2(
        model_bundle_name=name, load_model_fn=load, load_predict_fn=lambda _: function
    )


def with_canary(client, name, percent, function=None, **settings):
    """An endpoint that says "old", and one that says "new" as its canary."""
    endpoint = client.deploy(saying("old"), name=name, max_workers=1, **SMALL)
    bundle = bundle_of(client, f"{name}-new", function or saying("new"))
    client.start_canary(name, bundle, percent=percent, **settings)
    client.wait_for_canary(name, DEADLINE)
    return endpoint


def words(endpoint, count):
    return [endpoint.predict(args()).value[0] for _ in range(count)]


def workers_of(endpoint):
    """The process behind each word."""
    return dict(endpoint.predict(args()).value for _ in range(4))


def canary(endpoint):
    return endpoint.refresh().model_endpoint.canary


class TestShare:
    def test_is_exact_evenly_spread_and_shown(self, client):
        endpoint = with_canary(client, "ca-share", 25)
        assert words(endpoint, 8) == ["old", "old", "old", "new"] * 2
        words(endpoint, 92)
        shown = canary(endpoint)
        assert (shown.percent, shown.status, shown.bundle_name) == (25, "SERVING", "ca-share-new")
        assert (shown.canary.workers, shown.canary.requests, shown.canary.failures) == (1, 25, 0)
        assert (shown.endpoint.workers, shown.endpoint.requests, shown.endpoint.failures) == (1, 75, 0)

    def test_shows_how_long_each_side_takes_since_the_canary_began(self, client):
        def slow():
            time.sleep(0.3)
            return ["slow"]

        endpoint = client.deploy(slow, name="ca-times", max_workers=1, **SMALL)
        endpoint.predict(args())
        bundle = bundle_of(client, "ca-times-new", saying("new"))
        client.start_canary("ca-times", bundle, percent=50)
        client.wait_for_canary("ca-times", DEADLINE)
        assert words(endpoint, 4).count("new") == 2
        shown = canary(endpoint)
        assert (shown.canary.ran.count, shown.endpoint.ran.count) == (2, 2)
        assert shown.endpoint.ran.p50 > 0.25

    def test_is_changed_at_once(self, client):
        endpoint = with_canary(client, "ca-change", 0)
        assert set(words(endpoint, 20)) == {"old"}
        client.set_canary_percent("ca-change", 50)
        assert words(endpoint, 20).count("new") == 10
        client.set_canary_percent("ca-change", 100)
        assert set(words(endpoint, 20)) == {"new"}

    @pytest.mark.parametrize("kind", ["async", "streaming"])
    def test_is_kept_for_tasks_and_streams(self, client, kind):
        def items(word):
            yield word

        name = f"ca-{kind}"
        function = (lambda word: lambda: items(word)) if kind == "streaming" else (lambda word: lambda: word)
        endpoint = client.deploy(
            function("old"), name=name, endpoint_type=kind, per_worker=10, max_workers=1, **SMALL
        )
        client.start_canary(name, bundle_of(client, f"{name}-new", function("new")), percent=20)
        client.wait_for_canary(name, DEADLINE)
        if kind == "async":
            values = [future.get(DEADLINE).value for future in endpoint.predict_many([args()] * 50)]
        else:
            values = [item.value for _ in range(50) for item in endpoint.predict(args())]
        assert values.count("new") == 10
        assert canary(endpoint).canary.requests == 10

    def test_takes_no_worker_from_the_endpoint(self, client):
        endpoint = with_canary(client, "ca-beside", 10)
        state = endpoint.worker_settings()
        assert (state.available_workers, state.max_workers) == (1, 1)


class TestEnd:
    def test_promoted_its_warm_workers_stay(self, client):
        endpoint = with_canary(client, "ca-promote", 50)
        workers = workers_of(endpoint)
        client.promote_canary("ca-promote").wait_until_ready(DEADLINE)
        assert {tuple(endpoint.predict(args()).value) for _ in range(10)} == {("new", workers["new"])}
        eventually(lambda: not is_alive(workers["old"]))
        described = endpoint.refresh().model_endpoint
        assert (described.bundle_name, described.serving_bundle_name) == ("ca-promote-new",) * 2
        assert described.canary is None

    def test_rolled_back_it_gets_nothing_more_and_leaves(self, client):
        endpoint = with_canary(client, "ca-back", 50)
        workers = workers_of(endpoint)
        client.roll_back_canary("ca-back")
        assert set(words(endpoint, 20)) == {"old"}
        eventually(lambda: not is_alive(workers["new"]))
        shown = canary(endpoint)
        assert (shown.status, shown.canary.workers, shown.canary.requests) == ("ROLLED_BACK", 0, 2)
        with pytest.raises(Conflict, match="no canary: the last one is ROLLED_BACK"):
            client.promote_canary("ca-back")

    def test_a_second_canary_begins_at_nought(self, client):
        endpoint = with_canary(client, "ca-second", 50)
        words(endpoint, 10)
        client.roll_back_canary("ca-second")
        client.start_canary("ca-second", bundle_of(client, "ca-newer", saying("newer")), percent=50)
        client.wait_for_canary("ca-second", DEADLINE)
        assert words(endpoint, 4).count("newer") == 2
        shown = canary(endpoint)
        assert (shown.canary.requests, shown.endpoint.requests) == (2, 2)

    def test_one_that_can_not_load_fails_and_no_request_does(self, client):
        def broken():
            raise RuntimeError("the weights are missing")

        endpoint = client.deploy(saying("old"), name="ca-broken", **SMALL)
        client.start_canary(
            "ca-broken", bundle_of(client, "ca-broken-new", saying("new"), broken), percent=100
        )
        said, over = [], threading.Event()

        def ask():
            while not over.is_set():
                said.append(endpoint.predict(args()).value[0])

        thread = threading.Thread(target=ask)
        thread.start()
        with pytest.raises(EndpointFailed, match=r"FAILED: .*the weights are missing"):
            client.wait_for_canary("ca-broken", DEADLINE)
        over.set()
        thread.join()
        assert set(said) == {"old"}
        assert endpoint.refresh().model_endpoint.status == "READY"

    def test_one_that_fails_its_first_predictions_is_rolled_back(self, client):
        endpoint = with_canary(client, "ca-fails", 50, failing, rollback_after_failures=4)
        statuses = [endpoint.predict(args()).status for _ in range(40)]
        assert statuses.count("FAILURE") == 4
        shown = eventually(lambda: canary(endpoint).status == "FAILED" and canary(endpoint))
        assert "4 of the first 4 predictions of the bundle ca-fails-new" in shown.reason
        assert shown.reason.endswith("failed: ValueError: no such weather")
        assert (shown.canary.failures, shown.endpoint.failures) == (4, 0)
        assert endpoint.refresh().model_endpoint.status == "READY"

    def test_one_that_kills_its_workers_is_rolled_back(self, client):
        with_canary(client, "ca-dies", 100, dying, rollback_after_failures=2)
        endpoint = client.get_model_endpoint("ca-dies")
        with http(client) as raw:
            url = f"/v1/sync-tasks?model_endpoint_id={endpoint.model_endpoint.id}"
            eventually(lambda: raw.post(url, json={"args": {}}) and canary(endpoint).status == "FAILED")
        shown = canary(endpoint)
        assert "2 of the first 2 predictions" in shown.reason
        assert "the worker exited with code 7" in shown.reason
        assert words(endpoint, 5) == ["old"] * 5

    def test_the_rule_may_be_off(self, client):
        endpoint = with_canary(client, "ca-off", 50, failing, rollback_after_failures=0)
        statuses = [endpoint.predict(args()).status for _ in range(60)]
        assert statuses.count("FAILURE") == 30
        assert canary(endpoint).status == "SERVING"


class TestRefused:
    def test_a_second_one_and_changes_that_need_new_workers(self, client):
        with_canary(client, "ca-one", 10)
        for change in (
            lambda: client.start_canary("ca-one", bundle_of(client, "ca-two", saying("two"))),
            lambda: client.restart_model_endpoint("ca-one"),
            lambda: client.edit_model_endpoint(model_endpoint="ca-one", per_worker=3),
        ):
            with pytest.raises(Conflict, match="has a canary"):
                change()
        client.edit_model_endpoint(model_endpoint="ca-one", max_workers=2)

    def test_what_makes_no_sense(self, client):
        endpoint = client.deploy(saying("old"), name="ca-wrong", **SMALL)
        other = bundle_of(client, "ca-other", saying("other"))
        with pytest.raises(Conflict, match="is what the endpoint 'ca-wrong' serves"):
            client.start_canary("ca-wrong", endpoint.model_endpoint.bundle_id)
        with pytest.raises(Unprocessable, match="percent"):
            client.start_canary("ca-wrong", other, percent=101)
        with pytest.raises(Unprocessable, match="rollback_after_failures is 5, more than"):
            client.start_canary("ca-wrong", other, rollback_after_failures=5, probation_requests=4)
        with pytest.raises(Conflict, match="has no canary"):
            client.roll_back_canary("ca-wrong")


def test_the_awaitable_client(client):
    with_canary(client, "ca-aio", 10)

    async def ask():
        async with aio.LaunchClient(client.server.api_key, client.url) as awaitable:
            await awaitable.set_canary_percent("ca-aio", 100)
            endpoint = await awaitable.promote_canary("ca-aio")
            await endpoint.wait_until_ready(DEADLINE)
            return (await endpoint.predict(args())).value[0]

    assert asyncio.run(ask()) == "new"


class TestRollback:
    def test_a_new_bundle_that_fails_its_first_predictions_gives_way_to_the_old_one(self, client):
        endpoint = client.deploy(saying("old"), name="rb-fails", **RULE, **SMALL)
        worker = endpoint.predict(args()).value[1]
        client.deploy(failing, name="rb-fails", **RULE, **SMALL)
        assert "on probation" in endpoint.refresh().model_endpoint.status_reason
        responses = [endpoint.predict(args()) for _ in range(30)]
        assert [r.status for r in responses].count("FAILURE") == 3
        assert {r.value[1] for r in responses if r.status == "SUCCESS"} == {worker}
        described = eventually(
            lambda: endpoint.status() == "UPDATE_FAILED" and endpoint.refresh().model_endpoint
        )
        assert "3 of the first 3 predictions of the bundle rb-fails" in described.status_reason
        assert described.status_reason.endswith("failed: ValueError: no such weather")
        assert described.serving_bundle_id != described.bundle_id
        with pytest.raises(EndpointFailed, match="no such weather"):
            endpoint.wait_until_ready(DEADLINE)
        client.deploy(saying("fixed"), name="rb-fails", **RULE, **SMALL)
        assert words(endpoint, 1) == ["fixed"]

    def test_a_new_bundle_that_passes_takes_over_and_the_old_workers_leave(self, client):
        endpoint = client.deploy(saying("old"), name="rb-passes", **RULE, **SMALL)
        worker = endpoint.predict(args()).value[1]
        client.deploy(saying("new"), name="rb-passes", **RULE, **SMALL)
        assert words(endpoint, 9) == ["new"] * 9
        assert is_alive(worker)
        words(endpoint, 1)
        eventually(lambda: not is_alive(worker))
        described = endpoint.refresh().model_endpoint
        assert (described.status, described.status_reason) == ("READY", None)


@pytest.fixture(scope="module")
def restarted(tmp_path_factory):
    """A server's second life: "ca-again" has a canary, and "rb-stays" was rolled back."""
    folder = tmp_path_factory.mktemp("restarted")
    with running(folder) as client:
        with_canary(client, "ca-again", 50)
        endpoint = client.deploy(saying("old"), name="rb-stays", **RULE, **SMALL)
        client.deploy(failing, name="rb-stays", **RULE, **SMALL)
        for _ in range(3):
            endpoint.predict(args())
        eventually(lambda: endpoint.status() == "UPDATE_FAILED")
    with running(folder) as client:
        yield client


class TestAfterARestartOfTheServer:
    def test_the_canary_has_its_share(self, restarted):
        restarted.wait_for_canary("ca-again", DEADLINE)
        endpoint = restarted.get_model_endpoint("ca-again")
        eventually(lambda: canary(endpoint).canary.workers == 1 and canary(endpoint).endpoint.workers == 1)
        assert words(endpoint, 20).count("new") == 10

    def test_what_was_rolled_back_stays_so_until_it_is_tried_again(self, restarted):
        endpoint = restarted.get_model_endpoint("rb-stays")
        assert words(endpoint, 12) == ["old"] * 12
        assert endpoint.status() == "UPDATE_FAILED"
        restarted.restart_model_endpoint("rb-stays")
        endpoint.wait_until_ready(DEADLINE)
        assert endpoint.predict(args()).status == "FAILURE"


def test_a_worker_that_gets_a_sigterm_is_replaced_and_is_no_crash(client):
    endpoint = client.deploy(saying("old"), name="ca-term", **SMALL)
    worker = endpoint.predict(args()).value[1]
    send_signal(worker, signal.SIGTERM)
    eventually(lambda: not is_alive(worker))
    eventually(lambda: endpoint.worker_settings().available_workers == 1)
    assert endpoint.refresh().model_endpoint.status_reason is None
    assert "got a SIGTERM" in client.read_endpoint_creation_logs("ca-term")
