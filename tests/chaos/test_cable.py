"""The cable of a node is pulled under load: no packet comes any longer, and nobody says so."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import own_network
import pytest
from agents import Agent, settings_of
from cluster_servers import LITTLE, TOKEN, LoadOn, Servers, client_of, counting_itself
from nodes_driver import where
from postgres_server import PostgresServer
from server_driver import args, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SEEN_SECONDS = 2.5
SLOW = 3
"""Other programs may keep the machine busy: this many times the promised time is accepted."""


def test_a_node_without_its_cable_costs_what_ran_there(tmp_path: Path, figure: Callable[[str], None]) -> None:
    if problem := own_network.missing():
        pytest.skip(problem)
    with own_network.own_network() as network, PostgresServer() as postgres, ExitStack() as stack:
        postgres.execute("CREATE DATABASE records")
        servers = Servers(postgres.url("records"), tmp_path)
        hosts, nodes = [network.host(), network.host()], []
        for host in hosts:
            folder = tmp_path / host.cable
            folder.mkdir()
            with host.entered():
                nodes.append(Agent(folder, TOKEN, host.address))
            stack.callback(nodes[-1].close)
        first, second = stack.enter_context(servers.two(**settings_of(nodes, TOKEN)))
        here, there = stack.enter_context(client_of(first)), stack.enter_context(client_of(second))
        load, predict = counting_itself(tmp_path / "log")
        two = {"min_workers": 2, "max_workers": 2, **LITTLE}
        busy = here.deploy(predict, name="busy", load_model_fn=load, per_worker=2, **two)
        later = here.deploy(where, name="later", endpoint_type="async", **two)
        for endpoint in (busy, later):
            eventually(lambda endpoint=endpoint: endpoint.deployment_state().available_workers == 2)
        eventually(lambda: {e.name for e in there.list_model_endpoints()} == {"busy", "later"})

        def state(client=there):
            return next(each.state.value for each in client.list_nodes() if each.address == nodes[1].address)

        loads = [stack.enter_context(LoadOn(server, 3)) for server in (first, second)]
        for each in loads:
            each.more(20)
        futures = [there.get_model_endpoint("later").predict(args(seconds=1)) for _ in range(8)]
        assert futures[0].get(timeout=60).status == "SUCCESS"  # so the next ones run now
        hosts[1].pull()
        pulled = time.monotonic()
        eventually(lambda: state() == "away")
        seen = time.monotonic() - pulled
        assert seen < SLOW * SEEN_SECONDS
        for each in loads:
            each.more(50)
        assert [future.get(timeout=60).status for future in futures] == ["SUCCESS"] * 8
        done = time.monotonic() - pulled
        failed = [error for each in loads for error in each.failed]
        assert len(failed) <= 2, failed  # as many as the node has slots, of both servers together
        assert all("WorkerDied" in error for error in failed), failed
        hosts[1].plug()
        eventually(lambda: state() == "ready")
        for each in loads:
            each.more(20)
        assert [error for each in loads for error in each.failed] == failed
        figure(
            f"a node's cable is pulled: seen after {seen:.1f} s, {len(failed)} of the 2 requests that may run "
            f"there failed, 8 tasks done after {done:.1f} s, 0 lost"
        )
