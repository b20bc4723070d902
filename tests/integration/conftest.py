"""Fixtures of the tests with real processes."""

from pathlib import Path

import pytest
import uvloop
import worker_driver
from container_driver import container_engine
from server_driver import eventually, http, running

LOOPS = {"uvloop": {"OPENLAUNCH_WORKER_UVLOOP": str(Path(uvloop.__file__).parent.parent)}, "asyncio": {}}


@pytest.fixture(params=["uvloop", pytest.param("asyncio", marks=pytest.mark.slow)])
def each_loop(request, monkeypatch):
    """Workers use this event loop."""
    monkeypatch.setattr(worker_driver, "LOOP_ENV", LOOPS[request.param])


@pytest.fixture(scope="session")
def server_for_all():
    """A client of a server with the default settings: to start one for each module would take a fifth of the time."""
    with running() as client:
        yield client


@pytest.fixture(scope="module")
def client(server_for_all):
    """A client of a server that modules use one after the other: each finds no endpoint, but bundles of others."""
    yield server_for_all
    for endpoint in server_for_all.list_model_endpoints(owner="*"):
        server_for_all.delete_model_endpoint(endpoint)
    eventually(lambda: not server_for_all.list_model_endpoints(owner="*"))


@pytest.fixture(scope="module")
def raw(client):
    """Plain HTTP to the client's server."""
    with http(client) as raw:
        yield raw


@pytest.fixture(scope="module")
def engine():
    """A container engine of the module's own."""
    with container_engine() as engine:
        yield engine
