"""What holds for the suites that run over every driver."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from engine_workplace import SOURCES, Workplace, local_engine
from store_drivers import OPENERS, POSTGRES, Database, Opener, database

from openlaunch.engines.local import LocalEngine
from openlaunch.engines.sandbox import Sandboxes


@pytest.fixture(autouse=True)
def databases() -> Iterator[None]:
    """Each test has databases of its own."""
    yield
    POSTGRES.give_back()


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=OPENERS)
def opener(request: pytest.FixtureRequest) -> Opener:
    return OPENERS[request.param]


@pytest.fixture
def db(opener: Opener, tmp_path: Path) -> Iterator[Database]:
    with database(opener, tmp_path) as opened:
        yield opened


@pytest.fixture(params=LOOPS)
def run_on_loop(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    """Runs a test's coroutine with a deadline, on each kind of event loop."""

    def run(test: Awaitable[None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(60):
                await test

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(bounded())

    return run


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
