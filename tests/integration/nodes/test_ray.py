"""A server whose workers Ray places: a real cluster of a head and two nodes, on this machine."""

import importlib.util
import sys

import pytest
from agents import TOKEN
from nodes_driver import where
from ray_cluster import NODES, ray_cluster
from server_driver import args, eventually, running

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
LITTLE = {"memory": "64Mi"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ray_cluster(tmp_path_factory.mktemp("ray"), keep_workers_seconds=60) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environ.items():
            patch.setenv(name, value)
        with running(tmp_path_factory.mktemp("server"), engine="ray", cluster_token=TOKEN) as client:
            eventually(
                lambda: {each.address.partition(":")[0] for each in ready(client)} == set(NODES), SECONDS
            )
            yield client


def ready(client):
    return [each for each in client.list_nodes() if each.state.value == "ready"]


def workers(client):
    """How many workers each node has."""
    return {each.address.partition(":")[0]: each.workers for each in client.list_nodes()}


def reason(client, name):
    return client.get_model_endpoint(name).status_reason or ""


def test_each_worker_is_where_ray_has_room_for_it(cluster, client):
    endpoint = client.deploy(where, name="where", cpus=1.5, min_workers=2, max_workers=2, **LITTLE)
    eventually(lambda: workers(client) == dict.fromkeys(NODES, 1), SECONDS)
    assert str(cluster.folder) in endpoint.predict(args()).value
    assert [each["bundle"] for each in cluster.groups()] == [{"CPU": 1.5, "memory": 64 * 2**20}] * 2
    client.delete_model_endpoint("where")
    eventually(lambda: cluster.groups() == [], SECONDS)
