"""What a lost node costs a server whose workers are on nodes, each with an agent of its own."""

import concurrent.futures
import signal
import time

import pytest
from agents import agents, settings_of
from nodes_driver import checks, count, where
from server_driver import SMALL, args, eventually, running

from openlaunch.errors import WorkerDied

pytestmark = pytest.mark.slow

SEEN_SECONDS = 10.0
"""A node that hangs is seen in 2.5 s; the tests' machine may be busy."""


@pytest.fixture
def two():
    """Two agents, and a client of a server that uses them."""
    with agents(2) as started, running(task_max_attempts=1, **settings_of(started)) as client:
        eventually(lambda: checks(client)["nodes"]["status"] == "ok")  # else both workers may be on one
        yield started, client


def test_a_killed_node_costs_what_ran_there_and_nothing_else(two):
    started, client = two
    endpoint = client.deploy(where, name="where", min_workers=2, max_workers=2, **SMALL)
    eventually(lambda: endpoint.deployment_state().available_workers == 2)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        ahead = [pool.submit(endpoint.predict, args(seconds=2)) for _ in range(2)]
        eventually(lambda: client.list_metrics()[0].running == 2)
        waiting = [pool.submit(endpoint.predict, args(seconds=0)) for _ in range(4)]
        began = time.monotonic()
        started[0].kill()
        outcomes = []
        for each in concurrent.futures.as_completed(ahead):
            error = each.exception()
            outcomes.append(type(error) if error else None)
            if error:
                assert time.monotonic() - began < SEEN_SECONDS
                assert started[0].address in str(error)
        assert sorted(outcomes, key=str) == sorted([WorkerDied, None], key=str)
        assert [each.result().status for each in waiting] == ["SUCCESS"] * 4
    check = checks(client)["nodes"]
    assert check["status"] == "warning"
    assert started[0].address in check["detail"]
    eventually(lambda: endpoint.deployment_state().available_workers == 2)  # both where there is room
    started[0].start()
    eventually(lambda: checks(client)["nodes"]["status"] == "ok")


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_tasks_of_a_lost_node_run_elsewhere_and_no_attempt_is_counted(two, fault):
    started, client = two
    endpoint = client.deploy(
        where, name="later", endpoint_type="async", min_workers=2, max_workers=2, **SMALL
    )
    eventually(lambda: endpoint.deployment_state().available_workers == 2)
    futures = [endpoint.predict(args(seconds=1)) for _ in range(6)]
    assert futures[0].get(timeout=60).status == "SUCCESS"  # so the next ones run now
    started[0].send(fault)
    for future in futures[1:]:
        assert future.get(timeout=60).status == "SUCCESS"


def test_a_stream_of_a_lost_node_ends_with_a_failure(two):
    started, client = two
    endpoint = client.deploy(
        count, name="count", endpoint_type="streaming", min_workers=1, max_workers=1, **SMALL
    )
    pieces = iter(endpoint.predict(args(n=1000)))
    next(pieces)
    for agent in started:
        agent.kill()
    last = list(pieces)[-1]
    assert last.status == "FAILURE"
    assert "was on the node" in last.traceback


def test_a_server_that_starts_again_uses_the_agents_again(tmp_path):
    with agents(1) as started:
        for _ in range(2):
            with running(tmp_path / "data", **settings_of(started)) as client:
                endpoint = client.deploy(where, name="where", **SMALL)
                assert endpoint.predict(args(seconds=0)).status == "SUCCESS"
