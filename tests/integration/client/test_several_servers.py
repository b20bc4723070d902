"""Either client with the URLs of several servers: which one is asked, and when it moves on to the next."""

import contextlib
import socket
import time

import pytest
from canned_server import Predicting, Server, reply, success

import openlaunch
from openlaunch.errors import ConnectionFailed, Unavailable

PREDICT = "POST /v1/sync-tasks"
STOPPING = {"title": "stopping", "status": 503, "detail": "the server is stopping", "code": "stopping"}


@pytest.fixture
def servers():
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(contextlib.closing(Server())) for _ in range(2)]
        for server in servers:
            server.routes[PREDICT] = reply(success(1))
        yield servers


@pytest.fixture
def both(flavour, servers):
    with contextlib.closing(Predicting(flavour, ",".join(each.url for each in servers))) as both:
        yield both


@pytest.fixture
def endpoint(both, servers):
    """An endpoint that the first server has answered for."""
    return both.endpoint(servers[0], "sync")


def closed_url():
    """The URL of a port on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def asked(server):
    return sum(request.command == "POST" for request in server.requests)


def test_the_first_server_is_asked_while_it_answers(both, servers, endpoint):
    for _ in range(3):
        both.predict(endpoint)
    assert [asked(server) for server in servers] == [3, 0]


def test_the_next_server_is_asked_when_one_is_away_and_from_then_on(flavour, servers):
    with contextlib.closing(Predicting(flavour, f"{closed_url()},{servers[1].url}")) as client:
        endpoint = client.endpoint(servers[1], "sync")
        began = time.monotonic()
        for _ in range(3):
            assert client.predict(endpoint).value == 1
        assert time.monotonic() - began < 1


def test_what_a_server_may_have_got_is_not_sent_to_another_one(both, servers, endpoint):
    servers[0].routes[PREDICT] = lambda request: None
    with pytest.raises(ConnectionFailed, match="not known"):
        both.predict(endpoint)
    assert [asked(server) for server in servers] == [1, 0]


def test_what_may_be_repeated_goes_to_another_server(both, servers, endpoint):
    servers[0].routes[PREDICT] = lambda request: None
    request = openlaunch.EndpointRequest(args={"x": 1}, idempotency_key="a")
    assert both.call(endpoint.predict, request).value == 1
    assert [asked(server) for server in servers] == [1, 1]


def test_a_server_that_stops_sends_its_callers_to_the_next(both, servers, endpoint):
    servers[0].routes[PREDICT] = reply(STOPPING, 503, **{"content-type": "application/problem+json"})
    assert both.predict(endpoint).value == 1
    assert [asked(server) for server in servers] == [1, 1]


def test_a_server_without_workers_sends_its_callers_to_the_next_at_once(both, servers, endpoint):
    refused = {"title": "no", "status": 503, "detail": "another server leads", "code": "not_leading"}
    headers = {"content-type": "application/problem+json", "retry-after": "5"}
    servers[0].routes[PREDICT] = reply(refused, 503, **headers)
    began = time.monotonic()
    assert both.predict(endpoint).value == 1
    assert time.monotonic() - began < 2
    assert [asked(server) for server in servers] == [1, 1]


def test_what_no_server_would_do_is_said_by_the_first(flavour, servers):
    failed = {"title": "no", "status": 503, "detail": "no module named torch", "code": "endpoint_failed"}
    servers[0].routes[PREDICT] = reply(failed, 503, **{"content-type": "application/problem+json"})
    servers[1].routes[PREDICT] = lambda request: pytest.fail("it was asked")
    with (
        contextlib.closing(
            Predicting(flavour, ",".join(each.url for each in servers), max_retries=0)
        ) as once,
        pytest.raises(Unavailable, match="torch"),
    ):
        once.predict(once.endpoint(servers[0], "sync"))


def test_what_may_have_run_is_not_sent_to_the_next(both, servers, endpoint):
    broken = {"title": "no", "status": 503, "detail": "the server stopped before", "code": "interrupted"}
    servers[0].routes[PREDICT] = reply(broken, 503, **{"content-type": "application/problem+json"})
    with pytest.raises(Unavailable):
        both.predict(endpoint)
    assert [asked(server) for server in servers] == [1, 0]


def test_a_server_that_does_not_take_connections_costs_two_seconds(flavour, servers):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(2):  # what its queue holds; the kernel drops the rest, as a cut cable does
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            url = f"http://127.0.0.1:{full.getsockname()[1]},{servers[1].url}"
            with contextlib.closing(Predicting(flavour, url)) as client:
                began = time.monotonic()
                client.endpoint(servers[1], "sync")
                assert 1.5 < time.monotonic() - began < 8


def test_an_error_names_every_server_that_was_tried(flavour):
    urls = [closed_url(), closed_url()]
    with (
        contextlib.closing(Predicting(flavour, ",".join(urls), max_retries=0)) as client,
        pytest.raises(ConnectionFailed) as failed,
    ):
        client.call(client.client.list_model_endpoints)
    for url in urls:
        assert f"no server can be reached at {url}" in str(failed.value)
