"""Streams whose server loses its node, or stands still, while the node runs them on: they continue."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from agents import agents, settings_of
from chaos_server import ChaosServer
from cluster_servers import KEY, LITTLE, TOKEN, Servers, client_of
from nodes_driver import counted, lines, noted
from server_driver import args, eventually
from tcp_proxy import Proxy, proxy_to

from openlaunch import LaunchClient
from openlaunch.errors import ConnectionFailed

pytestmark = pytest.mark.slow

SECONDS_OF_A_POLL = 30
"""For so long a server may hold a client's question, and the client waited longer before it gave that up."""


@dataclass
class Site:
    """Two servers and their nodes. The first server has a proxy to each node."""

    first: ChaosServer
    second: ChaosServer
    proxies: list[Proxy]
    folder: Path

    def stream(self, urls: str, then: Callable[[], object]) -> list[int]:
        """Read a stream of 30 numbers at these servers, of which 27 are made after `then` was called."""
        seen: list[int] = []
        given = {"log": str(self.folder / "log"), "gate": str(self.folder / "gate")}
        with LaunchClient(KEY, urls) as client:
            for piece in client.get_model_endpoint("counted").predict(args(to=30, **given)):
                assert piece.status == "SUCCESS", piece.error
                seen.append(int(piece.value.split()[0]))
                if seen == [0, 1, 2]:
                    then()
                    (self.folder / "gate").touch()
        return seen

    def state(self) -> str:
        """Of the first node, as the first server sees it."""
        with client_of(self.first) as client:
            return client.list_nodes()[0].state.value

    def has_worker(self) -> int:
        """Which of the nodes has the endpoint's worker."""
        with client_of(self.first) as client:
            return next(at for at, node in enumerate(client.list_nodes()) if node.workers)


@contextmanager
def site(servers: Servers, folder: Path, count: int) -> Iterator[Site]:
    with ExitStack() as stack:
        nodes = stack.enter_context(agents(count, token=TOKEN))
        proxies = [stack.enter_context(proxy_to(f"http://{node.address}")) for node in nodes]
        ways = settings_of(nodes, TOKEN)
        ways["agents"] = ",".join(proxy.url.removeprefix("http://") for proxy in proxies)
        first = stack.enter_context(servers.another(**ways))
        second = stack.enter_context(servers.another(**settings_of(nodes, TOKEN)))
        here, there = stack.enter_context(client_of(first)), stack.enter_context(client_of(second))
        one = {"min_workers": 1, "max_workers": 1, **LITTLE}
        made = here.deploy(counted, name="counted", endpoint_type="streaming", per_worker=4, **one)
        eventually(lambda: made.deployment_state().available_workers == 1)
        eventually(lambda: [each.name for each in there.list_model_endpoints()] == ["counted"])
        yield Site(first, second, proxies, folder)


def test_a_stream_continues_over_another_server_when_its_own_is_cut_off_from_the_node(
    servers: Servers, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    with site(servers, tmp_path, 2) as two, ExitStack() as cut:
        began = 0.0

        def pull() -> None:
            nonlocal began
            cut.enter_context(two.proxies[two.has_worker()].held())
            began = time.monotonic()

        assert two.stream(two.first.url, pull) == list(range(30))
        figure(
            "a server was cut off from a node: its client had its stream to the end, over another server, after "
            f"{time.monotonic() - began:.1f} s"
        )
        assert lines(tmp_path / "log").count("ran") == 1


@pytest.mark.parametrize("how", ["broken", "silent"])
def test_a_stream_continues_when_the_connection_to_its_only_node_is_lost_and_back(
    servers: Servers, tmp_path: Path, how: str
) -> None:
    with site(servers, tmp_path, 1) as two:
        proxy = two.proxies[0]

        def lose() -> None:
            if how == "broken":
                proxy.cut()
                return
            with proxy.held():
                eventually(lambda: two.state() == "away")
            eventually(lambda: two.state() == "ready")

        assert two.stream(two.first.url, lose) == list(range(30))
        assert lines(tmp_path / "log").count("ran") == 1


@pytest.mark.parametrize("knows", ["both", "one"])
def test_a_stream_continues_when_its_server_stands_still(
    servers: Servers, tmp_path: Path, knows: str, figure: Callable[[str], None]
) -> None:
    with site(servers, tmp_path, 1) as two:
        stopped = 0.0

        def stop() -> None:
            nonlocal stopped
            os.kill(two.first.pid, signal.SIGSTOP)
            stopped = time.monotonic()
            if knows == "one":
                threading.Timer(4.0, os.kill, (two.first.pid, signal.SIGCONT)).start()

        urls = f"{two.first.url},{two.second.url}" if knows == "both" else two.first.url
        assert two.stream(urls, stop) == list(range(30))
        passed = time.monotonic() - stopped
        assert lines(tmp_path / "log").count("ran") == 1
        if knows == "both":
            os.kill(two.first.pid, signal.SIGCONT)
            figure(
                f"a stream whose server stands still was read to its end at another one after {passed:.1f} s"
            )


def test_a_wait_for_a_task_moves_on_when_its_server_stands_still(
    servers: Servers, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    with site(servers, tmp_path, 1) as two, LaunchClient(KEY, f"{two.first.url},{two.second.url}") as client:
        client.deploy(noted, name="later", endpoint_type="async", min_workers=1, **LITTLE)
        task = client.get_model_endpoint("later").predict(args(log=str(log), gate=str(gate), value=7))
        eventually(lambda: log.exists())
        os.kill(two.first.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            gate.touch()
            assert task.get(timeout=60).value == 7
            passed = time.monotonic() - stopped
        finally:
            os.kill(two.first.pid, signal.SIGCONT)
        assert passed < SECONDS_OF_A_POLL
        figure(f"a client that waits for a task at a server that stands still had it after {passed:.1f} s")


def test_a_request_that_is_sent_once_ends_when_its_server_stands_still_and_the_next_goes_elsewhere(
    servers: Servers, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    with site(servers, tmp_path, 1) as two, LaunchClient(KEY, f"{two.first.url},{two.second.url}") as client:
        once = client.deploy(noted, name="once", min_workers=1, per_worker=2, **LITTLE)
        given = {"log": str(tmp_path / "log"), "gate": str(tmp_path / "gate"), "value": 7}
        (tmp_path / "gate").touch()
        assert once.predict(args(**given)).value == 7
        os.kill(two.first.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            with pytest.raises(ConnectionFailed, match="stands still") as failed:
                once.predict(args(**given))
            passed = time.monotonic() - stopped
            assert failed.value.sent
            assert once.predict(args(**given)).value == 7
        finally:
            os.kill(two.first.pid, signal.SIGCONT)
        figure(
            f"a sync request without a key at a server that stands still had its error after {passed:.1f} s"
        )
