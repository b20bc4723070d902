"""An agent that is left running in the background, apart from who started it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from agents import TOKEN
from server_driver import eventually, is_alive, running

from openlaunch.agent.address_file import agent_address
from openlaunch.server.operations.datadir import DataDir


def launch(folder, **settings):
    """Call the command; gives what it printed, and how it ended."""
    given = {f"OPENLAUNCH_{name.upper()}": str(value) for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "openlaunch.cli", "agent", "--background", "--data-dir", str(folder)],
        env={**os.environ, "OPENLAUNCH_CLUSTER_TOKEN": TOKEN, "OPENLAUNCH_PORT": "0", **given},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture
def folder(tmp_path):
    yield tmp_path / "data"
    if (lock := tmp_path / "data" / "lock").exists() and lock.read_text():
        with suppress(ProcessLookupError):
            os.kill(int(lock.read_text()), signal.SIGTERM)


def process_of(folder):
    return int((folder / "lock").read_text())


@pytest.mark.slow
def test_the_one_that_runs_is_used_and_it_outlives_the_session_of_who_started_it(folder):
    first = launch(folder)
    process = process_of(folder)
    assert os.getsid(process) == process
    again = launch(folder)
    assert again.stdout == first.stdout
    assert process_of(folder) == process
    at = first.stdout.split()[-1]
    with running(engine="agents", agents=at, cluster_token=TOKEN) as client:
        eventually(
            lambda: [(each.address, each.state.value) for each in client.list_nodes()] == [(at, "ready")]
        )
    os.kill(process, signal.SIGTERM)
    eventually(lambda: not is_alive(process))
    assert agent_address(DataDir(folder).agent_address) is None


def test_one_that_can_not_start_says_why(folder):
    folder.mkdir()
    with DataDir(folder).locked():
        run = launch(folder)
    assert run.returncode == 2
    assert "uses the data directory" in run.stderr
    (folder / "lock").write_text("")


@pytest.mark.slow
def test_it_ends_once_no_server_needs_it(tmp_path: Path):
    folder = tmp_path / "data"
    launch(folder, keep_workers_seconds=1)
    process = process_of(folder)
    eventually(lambda: not is_alive(process))
    assert "no server was connected" in (folder / "agent.log").read_text()
