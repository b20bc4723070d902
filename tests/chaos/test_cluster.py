"""Servers on one database: what becomes of tasks, scaling and callers when one of them dies, hangs or stops."""

import concurrent.futures
import os
import signal
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx2
import pytest
from agents import agents, settings_of
from chaos_server import ChaosServer
from cluster_servers import KEY, LITTLE, TOKEN, Servers, client_of
from http_service import http_service
from nodes_driver import counting
from server_driver import args, eventually

from openlaunch import EndpointRequest, EndpointResponseFuture, LaunchClient
from openlaunch.errors import TooManyRequests, Unavailable

pytestmark = pytest.mark.slow

SLOW = 3
"""Other programs may keep the machine busy: this many times the promised time is accepted."""


def square(n, log=None, seconds=0.0):
    import time
    from pathlib import Path

    if log is not None:
        with Path(log).open("a") as file:
            file.write(f"{n}\n")
    time.sleep(seconds)
    return n * n


def deployed(client: LaunchClient) -> None:
    client.deploy(square, name="later", endpoint_type="async", max_workers=1, per_worker=4, **LITTLE)


def endpoint_at(client: LaunchClient) -> Any:
    return eventually(lambda: {e.name: e for e in client.list_model_endpoints()}.get("later"))


def results(futures: list[Any]) -> list[int]:
    return [int(future.get(timeout=60).result) for future in futures]


def status(server: ChaosServer, key: str) -> int:
    return httpx2.get(f"{server.url}/v1/model-endpoints", auth=(key, ""), timeout=60).status_code


def mentions(path: Path, word: str) -> int:
    return path.read_text().splitlines().count(word)


def lines(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_what_one_server_does_the_others_know_and_other_clusters_are_refused(servers: Servers) -> None:
    with servers.two() as (first, second):
        with client_of(first) as here, client_of(second) as there:
            deployed(here)
            endpoint = endpoint_at(there)
            assert results([endpoint.predict(args(n=n)) for n in range(20)]) == [n * n for n in range(20)]

            direct = here.deploy(square, name="direct", max_workers=1, **LITTLE)
            eventually(lambda: {e.name for e in there.list_model_endpoints()} == {"later", "direct"})
            assert direct.predict(args(n=3)).value == 9
            with pytest.raises(Unavailable, match="another server of the cluster leads"):
                there.get_model_endpoint("direct").predict(args(n=3))
            endpoint_path = f"/v1/model-endpoints/{direct.model_endpoint.id}"
            of_leader = [endpoint_path + end for end in ("/workers", "/why", "/logs")]
            for path in (*of_leader, "/v1/hosted_inference/endpoints/creation_logs/direct"):
                at_leader, elsewhere = (
                    httpx2.get(server.url + path, auth=(KEY, ""), timeout=60) for server in (first, second)
                )
                assert at_leader.status_code == 200, path
                assert (elsewhere.status_code, elsewhere.json()["code"]) == (503, "not_leading"), path
            with LaunchClient(KEY, f"{second.url},{first.url}", max_retries=0) as either:
                assert either.get_model_endpoint("direct").predict(args(n=3)).value == 9
            ready = [httpx2.get(f"{server.url}/readyz", timeout=60).status_code for server in (first, second)]
            assert ready == [200, 503]
            here.delete_model_endpoint("direct")

            made = here.create_api_key("ann")
            eventually(lambda: status(second, made.api_key) == 200)
            here.revoke_api_key(made.id)
            eventually(lambda: status(second, made.api_key) == 401)

            there.delete_model_endpoint("later")
            for client in (here, there):
                eventually(lambda client=client: not client.list_model_endpoints())
        for settings, said in (
            ({"cluster_token": "f" * 64}, "of another cluster"),
            ({"cluster_token": None}, "another server uses it"),
        ):
            with pytest.raises(AssertionError, match=said), servers.another(**settings):
                pass


def test_clocks_that_are_minutes_off_change_nothing(servers: Servers) -> None:
    with (
        agents(1, token=TOKEN) as nodes,
        servers.another(clock_off=600, **settings_of(nodes, TOKEN)) as first,
        servers.another(clock_off=-600, **settings_of(nodes, TOKEN)) as second,
        client_of(first) as here,
        client_of(second) as there,
    ):
        assert eventually(servers.leader) == first.url
        deployed(here)
        futures = [
            endpoint_at(client).predict(args(n=n, seconds=0.2)) for client in (here, there) for n in range(8)
        ]
        assert results(futures) == [n * n for n in range(8)] * 2
        for client in (here, there):
            tasks = client.list_tasks("later").tasks
            assert len(tasks) == 16
            assert all(abs(time.time() - each.created_at.timestamp()) < 120 for each in tasks)
        futures = [endpoint_at(there).predict(args(n=n, seconds=0.5)) for n in range(8)]
        first.kill()
        killed = time.monotonic()
        eventually(lambda: servers.leader() == second.url)
        assert time.monotonic() - killed < 3 * SLOW
        assert results(futures) == [n * n for n in range(8)]


def test_limits_of_a_key_hold_for_all_servers_together(servers: Servers) -> None:
    most = 40
    rate = {"requests_per_second": 0.01, "burst": most}
    with servers.two() as (first, second), client_of(first) as admin:
        admin.deploy(square, name="later", endpoint_type="async", max_workers=1, wait=False, **LITTLE)
        owner = admin.whoami().owner
        for limits, code in ((rate, "rate_limited"), ({"requests_per_day": most}, "quota_exceeded")):
            key = admin.create_api_key(owner, "user", **limits).api_key
            eventually(lambda key=key: status(second, key) == 200)
            with (
                LaunchClient(key, first.url, max_retries=0) as here,
                LaunchClient(key, second.url, max_retries=0) as there,
            ):
                endpoint, taken = endpoint_at(there), []
                for n in range(most):
                    endpoint_at(here).predict(args(n=n))

                def refused(endpoint: Any = endpoint, taken: list[Any] = taken) -> str:
                    try:
                        taken.append(endpoint.predict(args(n=0)))
                    except TooManyRequests as error:
                        return error.code
                    return ""

                assert eventually(refused) == code
                assert len(taken) < most  # alone, it would have taken as many again


def test_a_callback_is_sent_by_one_server_alone(servers: Servers) -> None:
    taken: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            taken.append(self.headers["webhook-id"])
            time.sleep(1.5)  # in which another server looks for what is due
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with (
        http_service(Receiver) as receiver,
        servers.two() as (first, _),
        client_of(first) as client,
    ):
        deployed(client)
        endpoint = endpoint_at(client)
        url = f"http://127.0.0.1:{receiver.server_port}/done"
        futures = [
            endpoint.predict(EndpointRequest(args={"n": n}, callback_url=url, idempotency_key=f"n-{n}"))
            for n in range(20)
        ]
        for future in futures:
            eventually(
                lambda future=future: client.list_deliveries(future.async_task_id)[0].status == "DELIVERED"
            )
        assert len(taken) == len(set(taken)) == 20


@pytest.mark.parametrize("signal_sent", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_a_leader_that_is_lost_is_replaced_and_no_task_with_it(
    servers: Servers, signal_sent: signal.Signals, tmp_path: Path
) -> None:
    with servers.two() as (first, second), client_of(first) as here, client_of(second) as there:
        deployed(here)
        endpoint = endpoint_at(there)
        log = tmp_path / "log"
        futures = [endpoint.predict(args(n=n, log=str(log), seconds=0.3)) for n in range(20)]
        eventually(lambda: len(lines(log)) >= 4)
        os.kill(first.pid, signal_sent)
        lost_at = time.monotonic()
        eventually(lambda: servers.leader() == second.url)
        assert time.monotonic() - lost_at < (1 if signal_sent is signal.SIGTERM else 3) * SLOW
        assert results(futures) == [n * n for n in range(20)]
        ran = lines(log)
        assert set(ran) == set(range(20))
        assert len(ran) <= 20 + 4  # those that ran when the leader was lost
        if signal_sent is signal.SIGSTOP:
            os.kill(first.pid, signal.SIGCONT)
            eventually(lambda: "another server leads now" in first.log())
            assert results([endpoint_at(here).predict(args(n=n)) for n in range(4)]) == [0, 1, 4, 9]
            assert servers.leader() == second.url


@pytest.mark.parametrize("signal_sent", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_a_lost_leader_costs_no_task_no_model_and_little_time(
    servers: Servers, signal_sent: signal.Signals, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    log = tmp_path / "log"
    load, predict = counting(log)
    with (
        agents(2, token=TOKEN) as nodes,
        servers.two(**settings_of(nodes, TOKEN)) as (first, second),
        LaunchClient(KEY, f"{first.url},{second.url}", max_retries=8) as client,
        LaunchClient(KEY, second.url, max_retries=8) as there,
    ):
        given = {"load_model_fn": load, "max_workers": 2, "min_workers": 2, **LITTLE}
        direct = client.deploy(predict, name="direct", **given)
        later = client.deploy(predict, name="later", endpoint_type="async", **given)
        for endpoint in (direct, later):
            eventually(lambda endpoint=endpoint: endpoint.deployment_state().available_workers == 2)
        futures = [later.predict(args(n=n, seconds=0.2)) for n in range(20)]
        os.kill(first.pid, signal_sent)
        lost_at = time.monotonic()
        request = EndpointRequest(args={"n": 5}, idempotency_key="after-the-leader")
        if signal_sent is signal.SIGSTOP:  # for whose answer a client would wait
            direct = there.get_model_endpoint("direct")
        assert direct.predict(request).value == 25
        seconds = time.monotonic() - lost_at
        figure(f"an answer {seconds:.1f} s after {signal_sent.name}")
        assert seconds < SLOW * 10
        if signal_sent is signal.SIGSTOP:
            futures = [EndpointResponseFuture(there, "later", each.async_task_id) for each in futures]
        assert results(futures) == [n * n for n in range(20)]
        for name in ("direct", "later"):
            endpoint = there.get_model_endpoint(name)
            eventually(lambda endpoint=endpoint: endpoint.deployment_state().available_workers == 2)
        assert mentions(log, "loaded") == 4
        if signal_sent is signal.SIGSTOP:  # it wakes, and can neither start nor stop anything
            os.kill(first.pid, signal.SIGCONT)
            eventually(lambda: "another server leads now" in first.log())
            assert [direct.predict(args(n=n)).value for n in range(4)] == [0, 1, 4, 9]
            assert servers.leader() == second.url
            assert mentions(log, "loaded") == 4
        else:
            nodes[0].kill()
            for n in range(10):
                request = EndpointRequest(args={"n": n}, idempotency_key=f"after-a-node-{n}")
                assert direct.predict(request).value == n * n


def around(name: str, file: str = "", meets: str = "") -> str:
    import time
    from pathlib import Path

    import openlaunch

    if file:
        Path(file).touch()
    while meets and not Path(meets).exists():
        time.sleep(0.01)
    return str(openlaunch.endpoint(name).predict(name="")) if name else "end"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_calls_that_wait_for_each_other_at_two_servers_are_refused(
    servers: Servers, kind: str, tmp_path: Path
) -> None:
    """Each server has one of two requests, and no server alone sees that they wait for each other."""
    names = ["one", "other"]
    files = {name: str(tmp_path / name) for name in names}

    def asked(server: ChaosServer, name: str, args: dict[str, str]) -> httpx2.Response:
        preferred = {"Prefer": "wait=60"} if kind == "async" else {}
        url = f"{server.url}/e/{name}"
        return httpx2.post(url, json=args, headers=preferred, auth=(KEY, ""), timeout=100)

    with (
        agents(1, token=TOKEN) as nodes,
        servers.two(**settings_of(nodes, TOKEN)) as (first, second),
        client_of(first) as client,
        concurrent.futures.ThreadPoolExecutor() as threads,
    ):
        for name in names:
            client.deploy(around, name=name, endpoint_type=kind, max_workers=1, per_worker=1, **LITTLE)
        for server in (first, second):
            for name in names:
                eventually(lambda server=server, name=name: asked(server, name, {"name": ""}).text == '"end"')
        began = time.monotonic()
        both = [
            threads.submit(asked, server, name, {"name": other, "file": files[name], "meets": files[other]})
            for server, name, other in zip((first, second), names, reversed(names), strict=True)
        ]
        answers = [each.result() for each in both]
        assert sorted(answer.status_code for answer in answers) == [200, 500]
        assert any("would wait for ever" in answer.text for answer in answers)
        assert time.monotonic() - began < 30
        for server in (first, second):
            for name in names:
                eventually(lambda server=server, name=name: asked(server, name, {"name": ""}).text == '"end"')
