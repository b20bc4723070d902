"""What another user of the machine reaches of a server, its workers and its agents: nothing. Linux only."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from agents import TOKEN, agents, settings_of
from hostile_owner import attempt
from server_driver import SMALL, args, eventually, running
from server_users import USERS, running_as

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

STRANGER = 4343
TRY = """
import ctypes, json, os, socket, sys
reached = []
def attempt(what, do):
    try:
        do()
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return
    reached.append(what)
def take(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(64):
        if libc.syscall(438, os.pidfd_open(pid), number, 0) >= 0:
            return
    raise PermissionError
asked = json.load(sys.stdin)
for path in asked["sockets"]:
    attempt(f"connect to {path}", lambda: socket.socket(socket.AF_UNIX).connect(path))
    attempt(f"replace {path}", lambda: os.rename(path, path + ".old"))
    attempt(f"list the folder of {path}", lambda: os.listdir(os.path.dirname(path)))
for path in asked["folders"]:
    attempt(f"list {path}", lambda: os.listdir(path))
    attempt(f"write to {path}", lambda: open(path + "/mine", "w"))
for pid in asked["processes"]:
    for name in ("environ", "mem", "maps"):
        attempt(f"read {name} of {pid}", lambda: open(f"/proc/{pid}/{name}", "rb").read(1))
    for name in ("fd", "root", "cwd"):
        attempt(f"list {name} of {pid}", lambda: os.listdir(f"/proc/{pid}/{name}"))
    attempt(f"signal {pid}", lambda: os.kill(pid, 0))
    attempt(f"take a descriptor of {pid}", lambda: take(pid))
print(json.dumps(reached))
"""


def reached(sockets, folders, processes) -> list[str]:
    """What a user who has nothing to do with the server reaches of these."""
    asked = json.dumps({"sockets": sockets, "folders": folders, "processes": processes})
    command = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "/usr/bin/python3"]
    done = subprocess.run([*command, "-c", TRY], input=asked, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def below(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def sockets_of(pids: list[int]) -> list[str]:
    """The unix sockets with a path that processes listen at."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    paths = {words[6]: words[7] for words in lines if len(words) > 7 and not words[7].startswith("@")}
    links = [
        str(link.readlink())
        for pid in pids
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if link.is_symlink()
    ]
    return sorted({paths[link[8:-1]] for link in links if link.startswith("socket:") and link[8:-1] in paths})


def told(pids: list[int]) -> str:
    """What everybody can read of how these processes were started."""
    return "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)


@pytest.mark.parametrize("user", USERS)
def test_another_user_reaches_nothing_of_a_server_and_its_workers(user):
    with running_as(user, openlaunch_isolation="required") as (client, _):
        endpoint = client.deploy(attempt, name="attempt", min_workers=1, **SMALL)
        folder = endpoint.predict(args(code="os.getcwd()")).value
        pids, data = below(client.server.pid), client.server.data_dir
        sockets = sockets_of(pids)
        assert [path.rpartition("/")[2] for path in sockets] == ["workers.sock"]
        assert len(pids) >= 4  # the server, a launcher, a nursery and a worker
        assert reached(sockets, [str(data), *map(str, data.iterdir()), folder], pids) == []
        assert client.server.api_key not in told(pids)


def test_another_user_reaches_nothing_of_an_agent_and_its_workers():
    with agents(1) as [agent], running(**settings_of([agent])) as client:
        endpoint = client.deploy(attempt, name="attempt", min_workers=1, **SMALL)
        assert endpoint.predict(args(code="1")).value == 1
        pids, data = below(agent.process.pid), agent.folder / "data"
        sockets = sockets_of(pids)
        assert [path.rpartition("/")[2] for path in sockets] == ["workers.sock"]
        assert reached(sockets, [str(data), *map(str, data.iterdir())], pids) == []
        assert TOKEN not in told(pids)
        eventually(lambda: endpoint.predict(args(code="1")).value == 1)
