"""What a server that is started again finds on its nodes: its workers, with their models loaded."""

import concurrent.futures
import os
import signal
from contextlib import contextmanager

import pytest
from agents import agents, settings_of
from chaos_server import ChaosServer
from nodes_driver import counting, endless, lines, slow_to_load
from server_driver import SMALL, args, eventually

from openlaunch import LaunchClient


@contextmanager
def client_of(server, retries=8):
    with LaunchClient(server.api_key, server.url, max_retries=retries) as client:
        yield client


@contextmanager
def on_one_node(tmp_path, **agent):
    """A server with one agent, and its client."""
    with (
        agents(1, **agent) as nodes,
        ChaosServer(tmp_path / "data", **settings_of(nodes)) as server,
        client_of(server) as client,
    ):
        yield nodes[0], server, client


def deploy_endless(client, log):
    """Deploy a streaming function that never ends, and that writes to this log when it is loaded."""
    load, predict = endless(log)
    return client.deploy(
        predict, name="endless", endpoint_type="streaming", load_model_fn=load, max_workers=1, **SMALL
    )


def again(server, how=signal.SIGKILL):
    """End the server, and start it once more."""
    os.kill(server.pid, how)
    server.stop()
    server.start()
    server.wait_until_up()


def all_ready(endpoint, count):
    eventually(lambda: endpoint.deployment_state().available_workers == count)


@pytest.mark.slow
@pytest.mark.timeout(240)  # five processes start one after the other
def test_models_stay_loaded_when_a_server_is_killed_and_when_it_is_upgraded(tmp_path):
    log = tmp_path / "log"
    load, predict = counting(log)
    given = {"load_model_fn": load, "per_worker": 2, **SMALL}
    with (
        agents(1) as nodes,
        ChaosServer(
            tmp_path / "data", task_max_attempts=1, drain_seconds=0.2, **settings_of(nodes)
        ) as server,
        client_of(server) as client,
    ):
        direct = client.deploy(predict, name="direct", min_workers=2, max_workers=2, **given)
        later = client.deploy(
            predict, name="later", endpoint_type="async", min_workers=1, max_workers=1, **given
        )
        all_ready(direct, 2)
        for how in (signal.SIGKILL, signal.SIGTERM):
            before = lines(log).count("runs 7")
            futures = [later.predict(args(n=7, seconds=0.5)) for _ in range(3)]
            eventually(lambda before=before: lines(log).count("runs 7") >= before + 2)
            again(server, how)
            assert direct.predict(args(n=4)).value == 16
            assert [future.get(timeout=60).value for future in futures] == [49] * 3
            all_ready(direct, 2)
            all_ready(later, 1)
        assert lines(log).count("loaded") == 3, nodes[0].log
        kinds = [event.kind for event in client.list_endpoint_events("direct").events]
        assert "worker_adopted" in kinds


@pytest.mark.slow
def test_a_worker_that_still_loads_is_adopted(tmp_path):
    log = tmp_path / "log"
    load, predict = slow_to_load(log, 5.0)
    with on_one_node(tmp_path) as (_, server, client):
        client.deploy(
            predict, name="slow", load_model_fn=load, min_workers=1, max_workers=1, wait=False, **SMALL
        )
        eventually(lambda: lines(log) == ["begins"])
        again(server)
        assert client.get_model_endpoint("slow").predict(args()).value == "done"
        assert lines(log) == ["begins", "loaded"]


@pytest.mark.slow
def test_a_stream_that_was_cut_off_leaves_a_worker_that_streams(tmp_path):
    log = tmp_path / "log"
    with on_one_node(tmp_path) as (_, server, client):
        endpoint = deploy_endless(client, log)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            items = iter(endpoint.predict(args(size=100_000), resume=False))
            next(items)
            cut_off = pool.submit(list, items)
            again(server)
            assert cut_off.exception() is not None or cut_off.result()[-1].status == "FAILURE"
        pieces = iter(client.get_model_endpoint("endless").predict(args(size=1)))
        assert [next(pieces).value for _ in range(3)] == ["x"] * 3
        pieces.close()
        assert lines(log) == ["loaded"]


@pytest.mark.slow
def test_a_stream_continues_when_its_server_is_started_again(tmp_path):
    log = tmp_path / "log"
    with on_one_node(tmp_path) as (_, server, client):
        endpoint = deploy_endless(client, log)
        pieces = iter(endpoint.predict(args(size=1)))
        assert [next(pieces).value for _ in range(3)] == ["x"] * 3
        again(server)
        assert [next(pieces).value for _ in range(1000)] == ["x"] * 1000
        pieces.close()
        assert lines(log) == ["loaded"]


@pytest.mark.slow
def test_workers_wait_for_a_server_for_a_while_only(tmp_path):
    log = tmp_path / "log"
    load, predict = counting(log)
    with on_one_node(tmp_path, keep_workers_seconds=0.2) as (node, server, client):
        client.deploy(predict, name="direct", load_model_fn=load, min_workers=1, max_workers=1, **SMALL)
        workers = node.folder / "data" / "workers"
        os.kill(server.pid, signal.SIGKILL)
        server.stop()
        eventually(lambda: not list(workers.glob("worker-*")))
        server.start()
        server.wait_until_up()
        assert client.get_model_endpoint("direct").predict(args(n=4)).value == 16
        assert lines(log).count("loaded") == 2


@pytest.mark.slow
def test_a_worker_that_was_started_with_other_settings_is_replaced(tmp_path):
    log = tmp_path / "log"
    load, predict = counting(log)
    with agents(1) as nodes:
        for limit in ("1MiB", "2MiB"):
            settings = settings_of(nodes) | {"max_result_bytes": limit}
            with ChaosServer(tmp_path / "data", **settings) as server, client_of(server) as client:
                if not lines(log):
                    client.deploy(predict, name="direct", load_model_fn=load, max_workers=1, **SMALL)
                assert client.get_model_endpoint("direct").predict(args(n=4)).value == 16
                os.kill(server.pid, signal.SIGKILL)
        assert lines(log).count("loaded") == 2
        eventually(lambda: "started with other settings" in server.log())
