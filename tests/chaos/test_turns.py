"""Two owners on one server: what one of them has under way, without end, takes no place that the other needs."""

import http.server
import os
import socket
import time
from contextlib import contextmanager

import pytest
from http_service import http_service
from server_driver import DEADLINE, SMALL, args, eventually, running

from openlaunch import EndpointRequest, LaunchClient
from openlaunch.errors import TooManyRequests

MANY = 100
"""More than the server does of anything at once."""


@pytest.fixture(scope="module")
def client():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_HTTP_TIMEOUT", "600")  # by default it ends a build that waits for 30 seconds
        with running() as client:
            yield client


@contextmanager
def owner(client, name):
    key = client.create_api_key(name)
    with LaunchClient(key.api_key, client.server.url, max_retries=0) as own:
        yield own


@pytest.fixture(scope="module")
def heavy(client):
    with owner(client, "heavy") as own:
        yield own


@pytest.fixture(scope="module")
def light(client):
    with owner(client, "light") as own:
        yield own


@pytest.fixture
def pit():
    """The port of a listener that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=500) as listener:
        yield listener.getsockname()[1]


@contextmanager
def receiving():
    """A receiver of callbacks, which counts them."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.server.received += 1
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http_service(Handler) as server:
        server.received = 0
        yield server


def same(x):
    return x


def hang(x):
    time.sleep(3600)


def identity(_):
    return same


def end_worker(x):
    if x == "end":
        os._exit(9)
    return x


def building(client, name):
    return "being built" in (client.get_model_endpoint(name).model_endpoint.status_reason or "")


def test_builds_that_do_not_end_leave_places_to_others(heavy, light, pit):
    for index in range(4):
        requirement = f"pkg{index} @ http://127.0.0.1:{pit}/pkg{index}-1.0.tar.gz"
        heavy.deploy(same, name=f"tu-b{index}", requirements=[requirement], wait=False, **SMALL)
    eventually(lambda: sum(building(heavy, f"tu-b{index}") for index in range(4)) == 3)
    light.deploy(same, name="tu-plain", min_workers=1, **SMALL)
    requirement = f"pkg9 @ http://127.0.0.1:{pit}/pkg9-1.0.tar.gz"
    light.deploy(same, name="tu-other", requirements=[requirement], wait=False, **SMALL)
    eventually(lambda: building(light, "tu-other"))
    for own, name in ((light, "tu-other"), *((heavy, f"tu-b{index}") for index in range(4))):
        own.delete_model_endpoint(name)


def test_callbacks_to_a_receiver_that_does_not_answer_hold_nobody_up(heavy, light, pit):
    ends = [own.deploy(same, name="tu-calls", endpoint_type="async", **SMALL) for own in (heavy, light)]
    silent = EndpointRequest(args={"x": 1}, callback_url=f"http://127.0.0.1:{pit}/")
    for future in ends[0].predict_many([silent] * 2 * MANY):
        future.get(DEADLINE)
    with receiving() as receiver:
        # Of the same owner, to another host: one receiver does not take all of its places either.
        for endpoint, host in ((ends[1], "127.0.0.1"), (ends[0], "localhost")):
            url, before = f"http://{host}:{receiver.server_port}/", receiver.received
            began = time.monotonic()
            endpoint.predict(EndpointRequest(args={"x": 2}, callback_url=url)).get(DEADLINE)
            eventually(lambda before=before: receiver.received > before)
            assert time.monotonic() - began < 10  # one attempt at the silent receiver takes 15 s


def test_batch_jobs_that_do_not_end_leave_places_to_others(heavy, light):
    bundles = [
        own.create_model_bundle_from_callable_v2(
            model_bundle_name=f"tu-{name}", load_predict_fn=lambda _, f=f: f, load_model_fn=lambda: None
        ).model_bundle_id
        for own, name, f in ((heavy, "hang", hang), (light, "same", same))
    ]
    few = {**SMALL, "storage": "64Mi"}
    jobs = [
        heavy.batch_async_request(model_bundle=bundles[0], inputs=[{"x": 1}], **few)["job_id"]
        for _ in range(20)
    ]
    eventually(lambda: sum(heavy.get_batch_async_response(job)["status"] == "RUNNING" for job in jobs) == 8)
    job = light.batch_async_request(model_bundle=bundles[1], inputs=[{"x": 1}], **few)["job_id"]
    light.wait_for_batch_job(job, timeout=DEADLINE)
    for each in jobs:
        heavy.cancel_batch_job(each)


def test_followers_of_logs_leave_places_to_others(heavy, light):
    streams = []
    for own in (heavy, light):
        own.deploy(same, name="tu-logs", min_workers=0, **SMALL)

    def follow():
        for _ in range(MANY):
            streams.append(heavy.follow_endpoint_logs("tu-logs"))

    try:
        with pytest.raises(TooManyRequests, match="half of them of one owner"):
            follow()
        assert len(streams) == MANY // 2
        streams.append(light.follow_endpoint_logs("tu-logs"))
    finally:
        for stream in streams:
            stream.close()


def test_tasks_that_end_their_workers_do_not_hold_up_another_owners(client, heavy, light):
    options = {"endpoint_type": "async", "max_workers": 1, "public_inference": True, **SMALL}
    made = client.deploy(end_worker, name="tu-poison", **options)
    own, theirs = (type(made)(made.model_endpoint, each) for each in (light, heavy))
    own.predict(args(x=1)).get(DEADLINE)
    theirs.predict_many([args(x="end")] * 60)
    for _ in range(20):
        began = time.monotonic()
        assert own.predict(args(x=1)).get(DEADLINE).status == "SUCCESS"
        assert time.monotonic() - began < 20  # back-off, were each end counted against the bundle, is longer
