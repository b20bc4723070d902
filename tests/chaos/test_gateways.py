"""Servers that use the same workers on nodes: each answers, whichever leads, and whatever becomes of another."""

import concurrent.futures
import json
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from agents import agents, settings_of
from chaos_server import ChaosServer
from cluster_servers import KEY, LITTLE, TOKEN, LoadOn, Servers, client_of, counting_itself
from nodes_driver import count
from openai_driver import ROUTES, mock_engine
from server_driver import args, eventually

from openlaunch import LaunchClient
from openlaunch.errors import NotFound

pytestmark = pytest.mark.slow


def square(n, seconds=0.0):
    import time

    time.sleep(seconds)
    return n * n


@pytest.fixture
def two(servers: Servers) -> Iterator[tuple[ChaosServer, ChaosServer, list[Any]]]:
    """The server that leads, another one, and their agent."""
    with agents(1, token=TOKEN) as nodes, servers.two(**settings_of(nodes, TOKEN)) as (first, second):
        yield first, second, nodes


def test_every_server_answers_with_the_same_workers(two: tuple[ChaosServer, ChaosServer, list[Any]]) -> None:
    first, second, _ = two
    with client_of(first) as here, client_of(second) as there:
        here.deploy(square, name="direct", max_workers=1, per_worker=2, **LITTLE)
        here.deploy(count, name="count", endpoint_type="streaming", max_workers=1, **LITTLE)
        here.deploy(square, name="later", endpoint_type="async", max_workers=1, **LITTLE)
        names = {"direct", "count", "later"}
        eventually(lambda: {e.name for e in there.list_model_endpoints()} == names)
        # The server that does not lead asks first, so its request is what the workers are started for.
        for client in (there, here, there, here):
            assert client.get_model_endpoint("direct").predict(args(n=3)).value == 9
            pieces = client.get_model_endpoint("count").predict(args(n=5))
            assert [piece.value for piece in pieces] == [0, 1, 2, 3, 4]
            futures = [client.get_model_endpoint("later").predict(args(n=n)) for n in range(5)]
            assert [future.get(timeout=60).value for future in futures] == [0, 1, 4, 9, 16]
        ready = [httpx2.get(f"{server.url}/readyz", timeout=60).status_code for server in (first, second)]
        assert ready == [200, 200]


@pytest.mark.parametrize(
    ("lost", "how"),
    [("leader", signal.SIGKILL), ("leader", signal.SIGTERM), ("other", signal.SIGKILL)],
    ids=["leader-killed", "leader-stopped", "other-killed"],
)
def test_a_server_that_is_lost_costs_requests_at_the_other_nothing(
    two: tuple[ChaosServer, ChaosServer, list[Any]],
    servers: Servers,
    lost: str,
    how: signal.Signals,
    tmp_path: Path,
) -> None:
    first, second, _ = two
    gone, stays = (first, second) if lost == "leader" else (second, first)
    load, predict = counting_itself(tmp_path / "log")
    with client_of(first) as here, client_of(stays) as there:
        given = {"load_model_fn": load, "min_workers": 1, "max_workers": 1, "per_worker": 2, **LITTLE}
        here.deploy(predict, name="busy", **given)
        eventually(lambda: any(e.name == "busy" for e in there.list_model_endpoints()))
        with LoadOn(stays, 3) as at_other, LoadOn(gone, 2) as at_lost:
            at_other.more(20)
            at_lost.more(20)
            os.kill(gone.pid, how)
            at_other.more(50)
            eventually(lambda: servers.leader() == stays.url)
            at_other.more(50)
        assert at_other.failed == []
        assert max(at_other.answers + at_lost.answers) == 2  # as many as it has slots, whichever server asks
        assert (tmp_path / "log").read_text().split() == ["loaded"]

        # All slots are the other server's now: half of them were given back.
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            endpoint = there.get_model_endpoint("busy")
            both = [pool.submit(endpoint.predict, args(seconds=0.5)) for _ in range(2)]
        assert sorted(each.result().value for each in both) == [1, 2]


def test_slots_that_one_server_does_not_use_are_the_others(
    two: tuple[ChaosServer, ChaosServer, list[Any]], tmp_path: Path, figure: Callable[[str], None]
) -> None:
    first, second, _ = two
    load, predict = counting_itself(tmp_path / "log")
    with client_of(first) as here, client_of(second) as there:
        given = {"load_model_fn": load, "min_workers": 1, "max_workers": 1, "per_worker": 4, **LITTLE}
        here.deploy(predict, name="busy", **given)
        eventually(lambda: any(e.name == "busy" for e in there.list_model_endpoints()))
        endpoints = [client.get_model_endpoint("busy") for client in (here, there)]
        for endpoint in (*endpoints, *endpoints):  # each in turn has all slots
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                all_slots = [pool.submit(endpoint.predict, args(seconds=0.5)) for _ in range(4)]
            assert sorted(each.result().value for each in all_slots) == [1, 2, 3, 4]
        for name, endpoint in zip(("leads", "does not"), endpoints, strict=True):
            took = []
            for _ in range(100):
                began = time.perf_counter()
                endpoint.predict(args())
                took.append(time.perf_counter() - began)
            figure(f"at the server that {name}: p50 {statistics.median(took) * 1000:.2f} ms, one at a time")
    for used in ([first], [first, second]):
        loads = [LoadOn(server, 8 // len(used)) for server in used]
        for each in loads:
            each.__enter__()
        began = time.perf_counter()
        eventually(lambda loads=loads: sum(len(each.answers) for each in loads) >= 300)
        rate = sum(len(each.answers) for each in loads) / (time.perf_counter() - began)
        for each in loads:
            each.__exit__()
        assert [each.failed for each in loads] == [[] for _ in used]
        figure(f"{rate:.0f} requests/s of 10 ms in 4 slots, from 8 callers at {len(used)} servers")


def test_functions_call_endpoints_through_the_server_whose_request_they_run(
    two: tuple[ChaosServer, ChaosServer, list[Any]], servers: Servers
) -> None:
    first, second, _ = two

    def call(n: int) -> int:
        import openlaunch

        return openlaunch.endpoint("direct").predict(n=n) + 1

    with client_of(first) as here, client_of(second) as there:
        here.deploy(square, name="direct", max_workers=1, per_worker=2, **LITTLE)
        # One worker, so that its connections for calls are to both servers.
        here.deploy(call, name="calls", max_workers=1, per_worker=2, **LITTLE)
        eventually(lambda: {e.name for e in there.list_model_endpoints()} == {"direct", "calls"})
        for client in (there, here, there, here):
            assert client.get_model_endpoint("calls").predict(args(n=3)).value == 10
        os.kill(first.pid, signal.SIGKILL)
        # Whoever leads: the calls of its own requests go through this server.
        assert [there.get_model_endpoint("calls").predict(args(n=n)).value for n in range(5)] == [
            1,
            2,
            5,
            10,
            17,
        ]
        eventually(lambda: servers.leader() == second.url)
        assert there.get_model_endpoint("calls").predict(args(n=4)).value == 17


def test_whichever_server_is_asked_answers_for_workers_and_nodes(
    two: tuple[ChaosServer, ChaosServer, list[Any]], servers: Servers
) -> None:
    first, second, (node,) = two

    def seen_by(client: LaunchClient) -> list[object]:
        workers = client.list_endpoint_workers("direct")
        (state,) = client.list_nodes()
        return [
            [(each.worker, each.phase, each.node) for each in workers],
            (state.address, state.state, state.workers),
            client.explain_endpoint("direct").ready_workers,
            [each.used_by for each in client.list_environments()],
            client.read_endpoint_creation_logs("direct"),
        ]

    with client_of(first) as here, client_of(second) as there:
        here.deploy(square, name="direct", min_workers=1, max_workers=1, per_worker=2, **LITTLE)
        eventually(lambda: any(e.name == "direct" for e in there.list_model_endpoints()))
        for client in (here, there):
            assert client.get_model_endpoint("direct").predict(args(n=3)).value == 9
        assert seen_by(there) == seen_by(here)
        assert len(there.list_endpoint_workers("direct")) == 1

        assert there.drain_node(node.address).state == "draining"
        assert here.list_nodes()[0].state == there.list_nodes()[0].state == "draining"
        (change,) = here.list_audit_log(action="change_node").entries
        assert change.address == "127.0.0.1"
        assert there.drain_node(node.address, draining=False).state == "ready"
        with pytest.raises(NotFound, match="no single node"):
            there.drain_node("nowhere:1")
        with pytest.raises(NotFound, match="no endpoint"):
            there.list_endpoint_workers("end_unknown")

        url, auth = f"{second.url}/v1/nodes/{node.address}", (KEY, "")
        too_much = httpx2.put(url, content=b"[" * 100_000, auth=auth, timeout=60)
        assert too_much.status_code in (413, 422, 503), too_much.text
        assert httpx2.put(url, json={"draining": True}, timeout=60).status_code == 401

        os.kill(first.pid, signal.SIGKILL)
        eventually(lambda: servers.leader() == second.url)
        eventually(lambda: len(there.list_endpoint_workers("direct")) == 1)


def test_a_node_that_is_removed_is_removed_at_all_servers(servers: Servers) -> None:
    with agents(2, token=TOKEN) as nodes:
        given = settings_of(nodes, TOKEN)
        with servers.another(**given) as first, servers.another(**given) as second:
            eventually(lambda: servers.leader() == first.url)
            with client_of(first) as here, client_of(second) as there:
                nodes[1].kill()
                eventually(lambda: {each.state for each in here.list_nodes()} == {"ready", "away"})
                assert there.remove_node(nodes[1].address).address == nodes[1].address
                eventually(
                    lambda: nodes[1].address not in httpx2.get(f"{second.url}/readyz", timeout=60).text
                )
                os.kill(first.pid, signal.SIGKILL)
                # Nobody leads now, and the question waits until somebody does.
                assert [each.address for each in there.list_nodes()] == [nodes[0].address]
                assert servers.leader() == second.url


def counted(to: int, gate: str):
    import time
    from pathlib import Path

    for number in range(to):
        while number >= 3 and not Path(gate).exists():
            time.sleep(0.01)
        yield number


def test_a_stream_is_resumed_at_whichever_server_its_client_comes_to(
    two: tuple[ChaosServer, ChaosServer, list[Any]], tmp_path: Path
) -> None:
    first, second, _ = two
    gate = tmp_path / "gate"
    with client_of(first) as here, client_of(second) as there:
        made = here.deploy(
            counted, name="counted", endpoint_type="streaming", max_workers=1, per_worker=4, **LITTLE
        )
        eventually(lambda: any(e.name == "counted" for e in there.list_model_endpoints()))
        path = f"/v1/streaming-tasks?model_endpoint_id={made.model_endpoint.id}"
        body = {"args": {"to": 6, "gate": str(gate)}}

        def begin() -> str:
            """Read two events at one server, and lose the connection; return the id of the second."""
            asked = {"json": body, "headers": {"openlaunch-resume": "true"}, "auth": (KEY, ""), "timeout": 60}
            with httpx2.stream("POST", first.url + path, **asked) as answer:
                ids = (line.removeprefix("id: ") for line in answer.iter_lines() if line.startswith("id: "))
                next(ids)
                return next(ids)

        def resume(server: ChaosServer, after: str, method: str = "POST") -> httpx2.Response:
            headers = {"last-event-id": after}
            return httpx2.request(method, server.url + path, headers=headers, auth=(KEY, ""), timeout=60)

        last = begin()
        gate.touch()
        answer = resume(second, last)
        assert answer.status_code == 200
        lines = answer.text.splitlines()
        values = [json.loads(line[6:])["result"]["result"] for line in lines if '"result"' in line]
        assert values == [2, 3, 4, 5]
        assert "event: end" in lines

        gate.unlink()
        last = begin()
        assert resume(second, last, "DELETE").json() == {"cancelled": True}
        assert resume(second, last).status_code == 404
        unknown = resume(second, "0" * 24 + "-1")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "stream_not_found")
        assert resume(second, last[:8]).status_code == 404


def test_a_stream_of_a_model_is_resumed_at_whichever_server_its_client_comes_to(
    two: tuple[ChaosServer, ChaosServer, list[Any]],
) -> None:
    first, second, _ = two
    with client_of(first) as here, client_of(second) as there:
        mock_engine(here, "chat", env={"STEP_MS": "20"}).wait_until_ready(120)
        eventually(lambda: any(e.name == "chat" for e in there.list_model_endpoints()))
        path, asked = ROUTES[0], {"model": "chat", "stream": True, "max_tokens": 30}
        sent: dict[str, Any] = {"json": asked, "auth": (KEY, ""), "timeout": 60}
        headers = {"openlaunch-resume": "true"}
        with httpx2.stream("POST", first.url + path, headers=headers, **sent) as answer:
            ids = (line.removeprefix("id: ") for line in answer.iter_lines() if line.startswith("id: "))
            last = [next(ids) for _ in range(3)][-1]
        rest = httpx2.post(second.url + path, headers={"last-event-id": last}, **sent)
        numbers = [int(line.rpartition("-")[2]) for line in rest.text.splitlines() if line.startswith("id: ")]
        assert numbers == [*range(4, 33)]  # the rest of 30 tokens, what says why they end, and the end
        assert rest.text.endswith("data: [DONE]\n\n")
        unknown = httpx2.post(second.url + path, headers={"last-event-id": "0" * 24 + "-1"}, **sent)
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "stream_not_found")
