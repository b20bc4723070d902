"""Fixtures of the tests with real processes."""

from pathlib import Path

import pytest
import uvloop
import worker_driver
from container_driver import container_engine
from server_driver import http, running

LOOPS = {"uvloop": {"OPENLAUNCH_WORKER_UVLOOP": str(Path(uvloop.__file__).parent.parent)}, "asyncio": {}}


@pytest.fixture(params=LOOPS)
def each_loop(request, monkeypatch):
    """Workers use this event loop."""
    monkeypatch.setattr(worker_driver, "LOOP_ENV", LOOPS[request.param])


@pytest.fixture(scope="module")
def client():
    """A client of a server of the module's own."""
    with running() as client:
        yield client


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
