"""What tests of both clients share."""

import pytest
from both_clients import FLAVOURS
from canned_server import Predicting, Server


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture(params=FLAVOURS)
def flavour(request):
    return request.param


@pytest.fixture
def both(flavour, server):
    """Each client in turn, of `server`."""
    both = Predicting(flavour, server.url)
    yield both
    both.close()
