"""Several servers with workers on nodes under load: what hangs, is drained or is away costs others nothing."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from agents import Agent, agents, settings_of
from chaos_server import ChaosServer
from cluster_servers import LITTLE, TOKEN, LoadOn, Servers, client_of, counting_itself
from nodes_driver import count
from postgres_server import PostgresServer
from server_driver import args, eventually

from openlaunch import LaunchClient
from openlaunch.client.endpoints import StreamingEndpoint
from openlaunch.errors import Unavailable

pytestmark = pytest.mark.slow


@dataclass
class Site:
    """Two servers, the first of which leads, and the nodes that they use; each node has a worker of two slots."""

    first: ChaosServer
    second: ChaosServer
    nodes: list[Agent]
    loaded: Path
    """Has a line for each time that the model was loaded."""

    def loads(self) -> int:
        return self.loaded.read_text().count("loaded")


@contextmanager
def site(servers: Servers, folder: Path, nodes: int = 2) -> Iterator[Site]:
    with (
        agents(nodes, token=TOKEN) as started,
        servers.another(**settings_of(started, TOKEN)) as first,
        servers.another(**settings_of(started, TOKEN)) as second,
    ):
        eventually(lambda: servers.leader() == first.url)
        load, predict = counting_itself(folder / "log")
        with client_of(first) as here, client_of(second) as there:
            given = {"min_workers": nodes, "max_workers": nodes, "per_worker": 2, **LITTLE}
            endpoint = here.deploy(predict, name="busy", load_model_fn=load, **given)
            eventually(lambda: endpoint.deployment_state().available_workers == nodes)
            eventually(lambda: any(e.name == "busy" for e in there.list_model_endpoints()))
        yield Site(first, second, started, folder / "log")


@contextmanager
def load_on(*servers: ChaosServer, threads: int = 3) -> Iterator[list[LoadOn]]:
    with ExitStack() as stack:
        loads = [stack.enter_context(LoadOn(server, threads)) for server in servers]
        for each in loads:
            each.more(20)
        yield loads


def states(client: LaunchClient) -> dict[str, tuple[str, int]]:
    return {each.address: (each.state.value, each.workers) for each in client.list_nodes()}


@pytest.mark.parametrize("who", ["leader", "other"])
def test_a_server_that_hangs_costs_the_other_nothing(
    servers: Servers, tmp_path: Path, who: str, figure: Callable[[str], None]
) -> None:
    with site(servers, tmp_path) as here:
        hangs, stays = (here.first, here.second) if who == "leader" else (here.second, here.first)
        with load_on(stays) as (load,):
            with load_on(hangs):
                pass  # so that it holds slots
            os.kill(hangs.pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                eventually(lambda: servers.leader() == stays.url)
                took = time.monotonic() - began
                load.more(50)
            finally:
                os.kill(hangs.pid, signal.SIGCONT)
            with load_on(hangs) as (again,):  # it wakes, and serves with the same workers
                again.more(20)
                load.more(20)
            assert again.failed == []
        assert load.failed == []
        assert here.loads() == 2
        if who == "leader":
            figure(
                f"the leader hangs: another one leads after {took:.1f} s; {len(load.answers)} answers, 0 failed"
            )


def test_a_node_that_hangs_costs_what_ran_there(
    servers: Servers, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    with site(servers, tmp_path) as here, load_on(here.first, here.second) as loads:
        node = here.nodes[1]
        node.send(signal.SIGSTOP)
        try:
            for each in loads:
                each.more(50)
            with client_of(here.second) as there:
                eventually(lambda: states(there)[node.address][0] == "away")
            for each in loads:
                each.more(50)
        finally:
            node.send(signal.SIGCONT)
        failed = [error for each in loads for error in each.failed]
        assert len(failed) <= 2, failed  # as many as the node has slots, of both servers together
        assert all("WorkerDied" in error for error in failed)
        with client_of(here.first) as client:
            eventually(lambda: states(client)[node.address][0] == "ready")
        before = len(failed)
        for each in loads:
            each.more(50)
        assert sum(len(each.failed) for each in loads) == before
        slowest = max(each.slowest for each in loads)
        figure(
            f"a node hangs: {before} of the 2 requests that may run there failed, the slowest took {slowest:.1f} s"
        )


def test_a_node_is_drained_by_any_server_under_load_on_both(servers: Servers, tmp_path: Path) -> None:
    with site(servers, tmp_path) as here, client_of(here.second) as there:
        first, second = here.nodes
        with load_on(here.first, here.second) as loads:
            assert there.drain_node(first.address).state.value == "draining"
            eventually(lambda: states(there) == {first.address: ("drained", 0), second.address: ("ready", 2)})
            for each in loads:
                each.more(20)
        assert [each.failed for each in loads] == [[], []]


def streamed(client: LaunchClient) -> Callable[[], int]:
    endpoint = client.get_model_endpoint("stream")
    assert isinstance(endpoint, StreamingEndpoint)

    def ask() -> int:
        values = [piece.value for piece in endpoint.predict(args(n=3))]
        assert values == [0, 1, 2], values
        return len(values)

    return ask


def test_while_postgresql_is_away_predictions_go_on(tmp_path: Path, figure: Callable[[str], None]) -> None:
    seconds = 30
    with PostgresServer() as postgres:
        postgres.execute("CREATE DATABASE records")
        servers = Servers(postgres.url("records"), tmp_path)
        with (
            site(servers, tmp_path) as here,
            client_of(here.first) as client,
            client_of(here.second) as there,
        ):
            load, predict = counting_itself(tmp_path / "log of tasks")
            client.deploy(
                predict, name="later", load_model_fn=load, endpoint_type="async", max_workers=1, **LITTLE
            )
            client.deploy(
                count, name="stream", endpoint_type="streaming", min_workers=2, per_worker=4, **LITTLE
            )
            eventually(lambda: {"later", "stream"} <= {e.name for e in there.list_model_endpoints()})
            later = there.get_model_endpoint("later")
            futures = [later.predict(args(seconds=0.5)) for _ in range(4)]
            with (
                load_on(here.first, here.second) as loads,
                LoadOn(here.first, 1, streamed) as streams,
                LoadOn(here.second, 1, streamed) as more_streams,
            ):
                of_streams = [streams, more_streams]
                for each in of_streams:
                    each.more(2)
                with postgres.frozen():
                    until = time.monotonic() + seconds
                    with pytest.raises(Unavailable):
                        later.predict(args())
                    while time.monotonic() < until:
                        for each in loads:
                            each.more(10)
                        for each in of_streams:
                            each.more(1)
                eventually(lambda: servers.leader() in (here.first.url, here.second.url))
                for each in loads:
                    each.more(20)
                assert [future.get(timeout=60).value for future in futures] == [1] * 4
            assert [each.failed for each in [*loads, *of_streams]] == [[]] * 4
            assert here.loads() == 2
            answers = sum(len(each.answers) for each in loads)
            figure(
                f"PostgreSQL was away for {seconds} s: {answers} answers and "
                f"{sum(len(each.answers) for each in of_streams)} streams from two servers, 0 failed; 4 tasks, 0 lost"
            )
