"""What a task with a large file takes of the server's memory."""

import os
import sys
from pathlib import Path

import pytest
from server_driver import SMALL, http, running

MIB = 2**20
SIZE = 24 * MIB


def size(file: bytes) -> int:
    return len(file)


def memory(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says how much memory a process had")
def test_a_task_with_a_file_takes_less_than_three_bodies_of_memory():
    with running() as client, http(client) as raw:
        client.deploy(size, name="tm-size", endpoint_type="async", max_workers=1, **SMALL)
        given = {"content-type": "application/octet-stream", "prefer": "wait=60"}
        # Its processes and threads are there before memory is counted.
        assert raw.post("/e/tm-size", content=b"x" * MIB, headers=given).json() == MIB
        pid = client.server.pid
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        before = memory(pid, "VmRSS")
        assert raw.post("/e/tm-size", content=os.urandom(SIZE), headers=given).json() == SIZE
        assert memory(pid, "VmHWM") - before < 3.3 * SIZE
