"""What the fault tests share: their two forms, their seed, and the figures that they tell at the end.

`make test-slow` runs the short form, `make chaos` (`OPENLAUNCH_CHAOS=long`) the long one. Faults come by chance from
a seed, which a failure shows and `OPENLAUNCH_CHAOS_SEED` sets.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster_servers import Servers
from postgres_server import shared_server

LONG = os.environ.get("OPENLAUNCH_CHAOS") == "long"
LONG_TIMEOUT_SECONDS = 1800
FIGURE = "figure"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    for item in here:
        item.add_marker(pytest.mark.slow)
        if LONG:
            item.add_marker(pytest.mark.timeout(LONG_TIMEOUT_SECONDS), append=False)


@pytest.fixture(scope="session")
def long_form() -> bool:
    """Whether this is the long form."""
    return LONG


@pytest.fixture
def chance() -> random.Random:
    """Where faults come from. The long form is another one each time."""
    seed = int(os.environ.get("OPENLAUNCH_CHAOS_SEED") or (time.time_ns() if LONG else 1))
    print(f"OPENLAUNCH_CHAOS_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Tells something that was measured; it is shown at the end of the run."""
    return lambda text: record_property(FIGURE, text)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Servers that share a database of their own."""
    name = f"cluster_{os.getpid()}_{time.monotonic_ns()}"
    shared_server().execute(f"CREATE DATABASE {name}")
    yield Servers(shared_server().url(name), tmp_path)
    shared_server().execute(f"DROP DATABASE {name} WITH (FORCE)")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    told = [
        (report.nodeid, value)
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == FIGURE
    ]
    if told:
        terminalreporter.section("figures of the fault tests")
    for test, value in told:
        terminalreporter.line(f"{test.rpartition('::')[2]}: {value}")
