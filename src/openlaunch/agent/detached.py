"""An agent that outlives who started it."""

import subprocess
import sys
import time

from openlaunch.agent.address_file import agent_address
from openlaunch.errors import ConfigurationError
from openlaunch.log_files import tail, trim
from openlaunch.server.operations.datadir import DataDir

START_SECONDS = 60.0
OTHER_SECONDS = 5.0
LOOK_SECONDS = 0.02
MAX_LOG_BYTES = 1024 * 1024
TOLD_BYTES = 1000


def agent_in_background(data: DataDir, arguments: list[str]) -> str:
    """Return where the directory's agent listens; start one with these arguments, unless one does.

    It is in a session of its own, and its parent ends with this process, so nothing that ends them ends it.

    Raises:
        ConfigurationError: it has ended, or does not listen within a minute; with the end of its log.
    """
    if (address := agent_address(data.agent_address)) is not None:
        return address
    data.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with data.agent_log.open("ab") as log:
        trim(data.agent_log, MAX_LOG_BYTES)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "openlaunch.cli", "agent", "--until-unused", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    return _when_it_listens(data, process)


def _when_it_listens(data: DataDir, process: "subprocess.Popen[bytes]") -> str:
    until, has_ended = time.monotonic() + START_SECONDS, False
    while (address := agent_address(data.agent_address)) is None:
        if not has_ended and process.poll() is not None:
            # Of two that are started at the same time, one ends, and the other one is to be used.
            until, has_ended = time.monotonic() + OTHER_SECONDS, True
        if time.monotonic() > until:
            process.kill()
            end = tail(data.agent_log, TOLD_BYTES).strip()
            raise ConfigurationError(f"the agent does not listen; its log ends with: {end}")
        time.sleep(LOOK_SECONDS)
    return address
