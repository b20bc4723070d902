"""The cable of a node or of a server is pulled under load: no packet comes any longer, and nobody says so."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import own_network
import pytest
from agents import Agent, settings_of
from cluster_servers import KEY, LITTLE, TOKEN, LoadOn, Servers, busy, client_of, counting_itself
from nodes_driver import counted, lines, noted, where
from postgres_server import PostgresServer
from server_driver import args, eventually

from openlaunch import LaunchClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SEEN_SECONDS = 2.5
SERVER_SECONDS = 5.0
"""Two of a lease, and what the system takes that breaks a client's connection."""
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
        quick = here.deploy(predict, name="busy", load_model_fn=load, per_worker=2, **two)
        later = here.deploy(where, name="later", endpoint_type="async", **two)
        for endpoint in (quick, later):
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


def test_a_server_without_its_cable_is_replaced_and_its_clients_move(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    if problem := own_network.missing():
        pytest.skip(problem)
    with own_network.own_network() as network, ExitStack() as stack:
        host = network.host()
        postgres = stack.enter_context(PostgresServer("listen_addresses=*", network="198.51.100.0/24"))
        postgres.execute("CREATE DATABASE records")
        servers = Servers(postgres.url("records").replace("127.0.0.1", host.near), tmp_path)
        (tmp_path / "node").mkdir()
        node = Agent(tmp_path / "node", TOKEN, host.near)
        stack.callback(node.close)
        given = settings_of([node], TOKEN)
        first = servers.new(host=host.address, **given)
        stack.callback(first.stop)
        with host.entered():
            first.start()
        first.wait_until_up()
        eventually(lambda: servers.leader() == first.url)
        second = stack.enter_context(servers.another(**given))
        here, there = stack.enter_context(client_of(first)), stack.enter_context(client_of(second))

        load, predict = counting_itself(tmp_path / "loaded")
        here.deploy(predict, name="busy", load_model_fn=load, per_worker=4, min_workers=1, **LITTLE)
        here.deploy(counted, name="counted", endpoint_type="streaming", min_workers=1, **LITTLE)
        here.deploy(noted, name="later", endpoint_type="async", min_workers=1, **LITTLE)
        eventually(lambda: {e.name for e in there.list_model_endpoints()} == {"busy", "counted", "later"})
        log, gate, said = tmp_path / "log", tmp_path / "gate", tmp_path / "said"
        task = here.get_model_endpoint("later").predict(args(log=str(log), gate=str(gate), value=7))
        eventually(lambda: lines(log) == ["ran"])
        others = stack.enter_context(LoadOn(second, 3))
        others.more(20)
        both = stack.enter_context(LaunchClient(KEY, f"{first.url},{second.url}"))

        pulled = 0.0
        seen: list[int] = []
        for piece in both.get_model_endpoint("counted").predict(args(log=str(said), to=30, gate=str(gate))):
            seen.append(int(piece.value.split()[0]))
            if seen == [0, 1, 2]:
                host.pull()
                pulled = time.monotonic()
                gate.touch()
        streamed = time.monotonic() - pulled
        assert seen == list(range(30))
        eventually(lambda: servers.leader() == second.url)
        led = time.monotonic() - pulled
        assert busy(both)() >= 1
        assert there.future(task.async_task_id).get(timeout=60).value == 7
        done = time.monotonic() - pulled
        others.more(20)
        assert others.failed == []
        assert (lines(log), lines(said).count("ran")) == (["ran"], 1)
        assert lines(tmp_path / "loaded") == ["loaded"]
        assert max(streamed, led) < SLOW * SERVER_SECONDS
        host.plug()
        with LoadOn(first, 1) as again:
            again.more(20)
        figure(
            f"a leading server's cable is pulled: its client had its stream to the end at the other one after "
            f"{streamed:.1f} s, that one led after {led:.1f} s at most, a running task was recorded after "
            f"{done:.1f} s; of {len(others.answers)} requests to the other one 0 failed, no model was loaded again"
        )
