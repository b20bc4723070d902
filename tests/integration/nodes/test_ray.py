"""A server whose workers Ray places: a real cluster of a head and two nodes, on this machine."""

import importlib.util
import os
import signal
import sys

import httpx2
import pytest
from agents import TOKEN
from chaos_server import ChaosServer, command_line, descendants
from container_driver import IMAGE, PYTHON
from nodes_driver import counting, lines, nothing_fails, where
from ray_cluster import NODES, ray_cluster
from server_driver import args, eventually

from openlaunch import LaunchClient

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed: make test-slow, or pip install 'openlaunch[ray]'",
    ),
    pytest.mark.skipif(sys.platform != "linux", reason="its nodes have addresses that other systems lack"),
]

SECONDS = 120.0
"""A process that Ray starts takes seconds, on a busy machine very many."""
BEFORE_RAY_KNOWS = 40.0
"""Ray takes a node for dead after a minute at the earliest."""
LITTLE = {"memory": "64Mi"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, engine):
    settings = {"keep_workers_seconds": 60, **engine.settings()}
    with ray_cluster(tmp_path_factory.mktemp("ray"), **settings) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server(cluster, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environ.items():
            patch.setenv(name, value)
        data = tmp_path_factory.mktemp("server")
        with ChaosServer(data, engine="ray", cluster_token=TOKEN, drain_seconds=1) as server:
            yield server


@pytest.fixture
def client(server):
    """A client, once the server can use both nodes; what a test deploys is deleted after it."""
    with LaunchClient(server.api_key, server.url, max_retries=8) as client:
        soon(lambda: len(ready(client)) == len(NODES))
        yield client
        for endpoint in client.list_model_endpoints():
            client.delete_model_endpoint(endpoint.name)
        soon(lambda: client.list_model_endpoints() == [])


def soon(condition):
    return eventually(condition, SECONDS)


def ready(client):
    return [each for each in client.list_nodes() if each.state.value == "ready"]


def workers(client):
    """How many workers each node has."""
    return {each.address.partition(":")[0]: each.workers for each in client.list_nodes()}


def described(server, name):
    """What the server says of an endpoint: its status and the reason."""
    with httpx2.Client(base_url=server.url, auth=(server.api_key, ""), timeout=60) as raw:
        (found,) = raw.get("/v1/model-endpoints", params={"name": name}).json()["model_endpoints"]
        return f"{found['status']} {found.get('status_reason')}"


def names(cluster):
    return {each["name"] for each in cluster.groups()}


def test_each_worker_is_where_ray_has_room_for_it(cluster, client):
    endpoint = client.deploy(where, name="where", cpus=1.5, min_workers=2, max_workers=2, **LITTLE)
    soon(lambda: workers(client) == dict.fromkeys(NODES, 1))
    assert str(cluster.folder) in endpoint.predict(args()).value
    assert [each["bundle"] for each in cluster.groups()] == [{"CPU": 1.5, "memory": 64 * 2**20}] * 2
    client.delete_model_endpoint("where")
    soon(lambda: cluster.groups() == [])


def test_an_endpoint_says_what_its_worker_waits_for_and_gets_what_another_one_leaves(cluster, server, client):
    first = client.deploy(where, name="first", cpus=2, min_workers=2, max_workers=2, **LITTLE)
    held = names(cluster)
    client.deploy(where, name="second", cpus=2, min_workers=1, max_workers=1, wait=False, **LITTLE)
    said = "a worker waits for 2 CPUs and 64 MiB of memory on the cluster"
    soon(lambda: said in described(server, "second"))
    assert [each.code.value for each in client.explain_endpoint("second").reasons][:1] == ["waits_for_room"]
    assert first.predict(args()).status == "SUCCESS"
    client.edit_model_endpoint(model_endpoint="first", min_workers=1, max_workers=1)
    soon(lambda: described(server, "second").startswith("READY"))
    assert names(cluster) == held
    assert workers(client) == dict.fromkeys(NODES, 1)


def test_a_new_version_gets_room_where_the_old_one_holds_all(client):
    held = {"cpus": 2, "min_workers": 2, "max_workers": 2, **LITTLE}
    client.deploy(where, name="full", **held)

    def other(seconds: float = 0.0) -> str:
        return "other"

    endpoint = client.deploy(other, name="full", **held)
    assert endpoint.predict(args()).value == "other"


def test_a_node_that_is_drained_gets_no_bundles(cluster, client):
    endpoint = client.deploy(where, name="moves", cpus=1, min_workers=2, max_workers=2, **LITTLE)
    node = next(each.address for each in client.list_nodes() if each.address.startswith(NODES[0]))
    try:
        with nothing_fails(endpoint):
            client.drain_node(node)
            soon(lambda: workers(client) == {NODES[0]: 0, NODES[1]: 2})
    finally:
        client.drain_node(node, draining=False)


def test_an_image_job_holds_a_bundle_while_it_runs(cluster, client):
    made = client.create_docker_image_batch_job_bundle(
        name="job",
        image_repository=IMAGE[0],
        image_tag=IMAGE[1],
        command=[PYTHON, "-c", "import time; time.sleep(5)"],
        cpus=1,
        memory="64Mi",
    )
    job = client.create_docker_image_batch_job(
        docker_image_batch_job_bundle=made["docker_image_batch_job_bundle_id"]
    )
    held = [{"CPU": 1.0, "memory": 64 * 2**20}]
    soon(lambda: [each["bundle"] for each in cluster.groups()] == held)
    assert client.wait_for_docker_image_batch_job(job["job_id"], SECONDS)["status"] == "SUCCESS"
    soon(lambda: cluster.groups() == [])


def test_an_agent_that_is_killed_is_started_again(cluster, client):
    client.deploy(where, name="again", cpus=1.5, min_workers=2, max_workers=2, **LITTLE)
    soon(lambda: workers(client) == dict.fromkeys(NODES, 1))
    before = cluster.agent_of(NODES[0])
    os.kill(before, signal.SIGKILL)
    soon(lambda: cluster.agent_of(NODES[0]) not in (0, before))
    soon(lambda: len(ready(client)) == 2 and workers(client) == dict.fromkeys(NODES, 1))
    soon(lambda: len(cluster.groups()) == 2)


def test_a_server_that_is_killed_finds_its_workers_and_what_is_reserved_for_them(
    cluster, server, client, tmp_path
):
    load, square = counting(tmp_path / "log")
    given = {"load_model_fn": load, "cpus": 1.5, "min_workers": 2, "max_workers": 2, **LITTLE}
    endpoint = client.deploy(square, name="kept", **given)
    held = names(cluster)
    agents = [cluster.agent_of(host) for host in NODES]
    server.kill()
    server.start()
    server.wait_until_up()
    assert endpoint.predict(args(n=4)).value == 16
    soon(lambda: endpoint.deployment_state().available_workers == 2)
    assert lines(tmp_path / "log").count("loaded") == 2
    assert [cluster.agent_of(host) for host in NODES] == agents
    assert names(cluster) == held


def test_workers_of_a_node_that_hangs_are_started_elsewhere_before_ray_knows(cluster, client):
    given = {"cpus": 0.5, "min_workers": 2, "max_workers": 2, **LITTLE}
    endpoint = client.deploy(where, name="elsewhere", **given)
    agent = cluster.agent_of(NODES[0])
    cluster.ask("stop_node")
    os.kill(agent, signal.SIGSTOP)
    try:
        client.edit_model_endpoint(model_endpoint="elsewhere", min_workers=4, max_workers=4)
        soon(lambda: [each.address.partition(":")[0] for each in ready(client)] == [NODES[1]])
        eventually(lambda: endpoint.deployment_state().available_workers == 4, BEFORE_RAY_KNOWS)
    finally:
        os.kill(agent, signal.SIGCONT)
        cluster.ask("wake_node")
    soon(lambda: len(ready(client)) == len(NODES))
    client.delete_model_endpoint("elsewhere")
    soon(lambda: cluster.groups() == [])


def test_while_ray_hangs_workers_are_started_and_once_it_is_back_they_are_reserved(cluster, server, client):
    endpoint = client.deploy(where, name="hangs", cpus=0.5, min_workers=1, max_workers=3, **LITTLE)
    (ray,) = [pid for pid in descendants(server.pid) if b"openlaunch.nodes.ray_client" in command_line(pid)]
    os.kill(ray, signal.SIGSTOP)
    try:
        soon(lambda: "Ray" in checks_of(server)["nodes"])
        client.edit_model_endpoint(model_endpoint="hangs", min_workers=3)
        soon(lambda: endpoint.deployment_state().available_workers == 3)
        assert len(cluster.groups()) < 3
    finally:
        os.kill(ray, signal.SIGCONT)
    soon(lambda: len(cluster.groups()) == 3)


def test_once_the_head_is_gone_for_good_workers_serve_and_more_are_started(cluster, server, client):
    endpoint = client.deploy(where, name="alone", cpus=0.5, min_workers=1, max_workers=3, **LITTLE)
    with nothing_fails(endpoint, 1):
        cluster.ask("kill_head")
        soon(lambda: "Ray" in checks_of(server)["nodes"])
        client.edit_model_endpoint(model_endpoint="alone", min_workers=2)
        soon(lambda: endpoint.deployment_state().available_workers == 2)
        cluster.ask("wait_for_raylets")  # they end a minute after the head
        client.edit_model_endpoint(model_endpoint="alone", min_workers=3)
        soon(lambda: endpoint.deployment_state().available_workers == 3)
    server.kill()
    server.start()
    server.wait_until_up()
    assert endpoint.predict(args()).status == "SUCCESS"
    soon(lambda: endpoint.deployment_state().available_workers == 3)


def checks_of(server):
    with httpx2.Client(base_url=server.url, timeout=60) as raw:
        return {each["name"]: str(each.get("detail")) for each in raw.get("/readyz").json()["checks"]}
