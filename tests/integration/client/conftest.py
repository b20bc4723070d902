"""What tests of both clients share."""

import pytest
from both_clients import FLAVOURS
from canned_server import Predicting


@pytest.fixture(params=FLAVOURS)
def both(request, server):
    """Each client in turn, of the module's `server`."""
    both = Predicting(request.param, server.url)
    yield both
    both.close()
