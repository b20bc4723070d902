"""What holds for the suites that run over every driver."""

from collections.abc import Iterator

import pytest
from store_drivers import POSTGRES


@pytest.fixture(autouse=True)
def databases() -> Iterator[None]:
    """Each test has databases of its own."""
    yield
    POSTGRES.give_back()
