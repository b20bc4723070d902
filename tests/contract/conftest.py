"""What holds for the suites that run over every driver."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_workplace import SOURCES, Workplace, local_engine
from store_drivers import POSTGRES

from openlaunch.engines.local import LocalEngine
from openlaunch.engines.sandbox import Sandboxes


@pytest.fixture(autouse=True)
def databases() -> Iterator[None]:
    """Each test has databases of its own."""
    yield
    POSTGRES.give_back()


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(params=[pytest.param("forks", marks=pytest.mark.slow), "isolated"])
def engine(request: pytest.FixtureRequest, root: Path, workplace: Workplace) -> LocalEngine:
    """One whose workers are forks, isolated or not."""
    sandboxes = Sandboxes((str(root),), (SOURCES,), required=True) if request.param == "isolated" else None
    return local_engine(root, workplace, sandboxes=sandboxes)
