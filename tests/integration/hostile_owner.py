"""An owner whose code tries what it can reach, and a victim beside it, for the tests of isolation."""

from pathlib import Path

import pytest
from server_driver import SMALL, args

from openlaunch import LaunchClient
from openlaunch.errors import WorkerDied

MIB = 2**20
REFUSED = {"OSError", "PermissionError", "FileNotFoundError"}


def attempt(code: str):
    """Evaluate an expression with modules at hand; a refusal is told by its type."""
    import importlib

    modules = "ctypes os pathlib resource signal socket subprocess sys tempfile openlaunch_worker"
    names = {name: importlib.import_module(name) for name in modules.split()}
    try:
        return eval(code, names)
    except (OSError, MemoryError) as error:
        return type(error).__name__


class Cell:
    """A server, its keys, and a worker of a hostile owner and of a victim."""

    def __init__(self, client) -> None:
        self.admin = client
        self.data = client.server.data_dir
        self.mallory, self.victim = (self._user(name) for name in ("mallory", "victim"))
        self.attack = self.deploy(self.mallory, "attack")
        self.other = self.deploy(self.victim, "other")

    def _user(self, name: str) -> LaunchClient:
        key = self.admin.create_api_key(name, role="user").api_key
        return LaunchClient(api_key=key, endpoint=self.admin.server.url, max_retries=0)

    def deploy(self, client, name: str, **options):
        options = {"min_workers": 1, "max_workers": 1, "per_worker": 1, **SMALL, **options}
        endpoint = client.deploy(attempt, name=name, **options)
        return lambda code: endpoint.predict(args(code=code)).value


def processes_of(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in path.read_text():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def used_too_much(cell, name: str, code: str, said: str) -> None:
    """Have a new worker do this, which the server has to end for it."""
    run = cell.deploy(cell.mallory, name)
    with pytest.raises(WorkerDied):
        run(code)
    assert said in cell.mallory.read_endpoint_logs(name)
    cell.mallory.delete_model_endpoint(name)


def memory_is_bounded(cell) -> None:
    """Have one request take too much, which is its error alone, and then all processes of a worker together."""
    assert cell.attack(f"len(bytearray({500 * MIB}))") == "MemoryError"
    assert cell.attack(f"len(bytearray({100 * MIB}))") == 100 * MIB
    child = "x = bytearray(200 << 20); import time; time.sleep(600)"
    start = f"[subprocess.Popen([sys.executable, '-c', {child!r}]) for _ in range(4)]"
    used_too_much(cell, "children", f"{start}[0].wait()", "MiB of memory; `memory` allows")
