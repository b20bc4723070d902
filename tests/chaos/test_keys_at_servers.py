"""Requests with an Idempotency-Key at several servers of a cluster: the model runs once where that can be known."""

import concurrent.futures
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from agents import Agent, agents, settings_of
from chaos_server import ChaosServer
from cluster_servers import LITTLE, TOKEN, Servers, client_of
from nodes_driver import noted
from server_driver import eventually

from openlaunch import EndpointRequest, LaunchClient
from openlaunch.errors import ConnectionFailed, DeadlineExceeded, Unprocessable

pytestmark = pytest.mark.slow


@dataclass
class Two:
    """The server that leads and another one, and what the model is to note and wait for."""

    first: ChaosServer
    second: ChaosServer
    here: LaunchClient
    there: LaunchClient
    node: Agent
    log: Path
    gate: Path

    def ask(self, client: LaunchClient, key: str, value: int, timeout: float | None = None) -> int:
        given = {"log": str(self.log), "gate": str(self.gate), "value": value}
        request = EndpointRequest(args=given, idempotency_key=key)
        return int(client.get_model_endpoint("noted").predict(request, timeout=timeout).value)

    def runs(self) -> int:
        return self.log.read_text().count("ran") if self.log.exists() else 0


@pytest.fixture
def two(servers: Servers, tmp_path: Path) -> Iterator[Two]:
    with (
        agents(1, token=TOKEN) as nodes,
        servers.two(**settings_of(nodes, TOKEN)) as (first, second),
        client_of(first) as here,
        client_of(second) as there,
    ):
        here.deploy(noted, name="noted", min_workers=1, max_workers=1, per_worker=4, **LITTLE)
        eventually(lambda: any(e.name == "noted" for e in there.list_model_endpoints()))
        yield Two(first, second, here, there, nodes[0], tmp_path / "log", tmp_path / "gate")


def test_a_key_at_two_servers_at_once_is_run_once(two: Two) -> None:
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(two.ask, client, "at once", 7) for client in (two.here, two.there) * 3]
        eventually(lambda: two.runs() == 1)
        with pytest.raises(Unprocessable, match="was sent with another body"):
            two.ask(two.there, "at once", 8)
        with pytest.raises(Unprocessable, match="was sent with another body"):
            two.ask(two.here, "at once", 8)
        two.gate.touch()
        assert [each.result() for each in asked] == [7] * 6
    assert [two.ask(client, "at once", 7) for client in (two.here, two.there)] == [7, 7]
    assert two.runs() == 1


def test_what_was_given_up_at_one_server_is_run_at_another(two: Two) -> None:
    with pytest.raises(DeadlineExceeded):
        two.ask(two.here, "given up", 7, timeout=0.3)
    two.gate.touch()
    assert two.ask(two.there, "given up", 7) == 7
    assert two.runs() == 2


def test_an_answer_outlives_the_server_that_made_it(two: Two, figure: Callable[[str], None]) -> None:
    two.gate.touch()
    assert two.ask(two.here, "answered", 7) == 7
    os.kill(two.first.pid, signal.SIGKILL)
    began = time.monotonic()
    assert two.ask(two.there, "answered", 7) == 7
    figure(f"the other server gives the answer of a killed one after {time.monotonic() - began:.2f} s")
    assert two.runs() == 1


def test_what_a_killed_server_ran_is_answered_by_another(two: Two, figure: Callable[[str], None]) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        lost = pool.submit(two.ask, two.here, "lost", 7)
        eventually(lambda: two.runs() == 1)
        waits = pool.submit(two.ask, two.there, "lost", 7)
        os.kill(two.first.pid, signal.SIGKILL)
        began = time.monotonic()
        assert isinstance(lost.exception(), ConnectionFailed)
        two.gate.touch()
        assert waits.result() == 7
    figure(
        f"another server has the answer that a killed one waited for after {time.monotonic() - began:.2f} s"
    )
    assert two.runs() == 1


def test_what_two_killed_servers_ran_is_answered_by_a_third(two: Two, servers: Servers) -> None:
    with (
        servers.another(**settings_of([two.node], TOKEN)) as third,
        client_of(third) as last,
        concurrent.futures.ThreadPoolExecutor(3) as pool,
    ):
        eventually(lambda: any(e.name == "noted" for e in last.list_model_endpoints()))
        asked = [pool.submit(two.ask, two.here, "twice", 7)]
        eventually(lambda: two.runs() == 1)
        two.first.kill()
        asked.append(pool.submit(two.ask, two.there, "twice", 7))
        eventually(lambda: servers.answering() == two.second.url)
        two.second.kill()
        waits = pool.submit(two.ask, last, "twice", 7)
        eventually(lambda: servers.answering() == third.url)
        assert all(isinstance(each.exception(), ConnectionFailed) for each in asked)
        two.gate.touch()
        assert waits.result() == 7
    assert two.runs() == 1


def test_what_a_server_and_its_node_ran_together_is_run_again_and_the_log_says_so(two: Two) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        lost = pool.submit(two.ask, two.here, "lost", 7)
        eventually(lambda: two.runs() == 1)
        os.kill(two.first.pid, signal.SIGSTOP)  # else it may learn of the node, and tell that to who waits
        two.node.kill()
        os.kill(two.first.pid, signal.SIGKILL)
        assert isinstance(lost.exception(), ConnectionFailed)
        two.node.start()
        two.gate.touch()
        endpoint = two.there.get_model_endpoint("noted")
        eventually(lambda: endpoint.deployment_state().available_workers == 1)
        assert two.ask(two.there, "lost", 7) == 7
    assert two.runs() == 2
    assert "it may have run at a server that is gone" in two.second.log()
