"""Quotas at several servers of a cluster: requests to all of them at once get no more places than there are."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest
from cluster_servers import LITTLE, Servers, client_of
from server_driver import eventually

from openlaunch import LaunchClient
from openlaunch.errors import Forbidden, Unauthorized

ROUNDS = 30
ATTEMPTS = 8
PLACES = 1


@pytest.fixture
def clients(servers: Servers) -> Iterator[list[LaunchClient]]:
    """An owner's at the server that leads and at another one; the owner may have one endpoint."""
    with servers.two() as both, client_of(both[0]) as admin, ExitStack() as stack:
        key = admin.create_api_key("ada").api_key
        admin.set_quotas("ada", endpoints=PLACES)
        made = [stack.enter_context(LaunchClient(key, each.url, max_retries=0)) for each in both]
        for client in made:
            eventually(partial(_is_known, client))
        yield made


def _is_known(client: LaunchClient) -> bool:
    """Whether the server has heard of the key, which was made at another one."""
    try:
        return client.list_model_endpoints() == []
    except Unauthorized:
        return False


def test_the_last_places_are_given_once(clients: list[LaunchClient]) -> None:
    bundle = clients[0].create_model_bundle_from_callable_v2(
        model_bundle_name="null", load_model_fn=lambda: None, load_predict_fn=lambda model: len
    )

    def attempt(name: int) -> bool:
        try:
            clients[name % 2].create_model_endpoint(
                endpoint_name=f"e{name}",
                model_bundle=bundle,
                endpoint_type="sync",
                min_workers=0,
                max_workers=1,
                per_worker=1,
                **LITTLE,
            )
        except Forbidden:
            return False
        return True

    with ThreadPoolExecutor(ATTEMPTS) as pool:
        for _ in range(ROUNDS):
            made = sum(pool.map(attempt, range(ATTEMPTS)))
            there = clients[0].list_model_endpoints()
            assert (made, len(there)) == (PLACES, PLACES)
            for endpoint in there:
                clients[0].delete_model_endpoint(endpoint)
