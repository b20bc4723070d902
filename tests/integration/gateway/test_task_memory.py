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


def made(size: int) -> bytes:
    return os.urandom(size)


def memory(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says how much memory a process had")
def test_a_task_with_a_file_and_one_that_returns_one_take_about_two_bodies_of_memory():
    with running() as client, http(client) as raw:
        for function in (size, made):
            name = f"tm-{function.__name__}"
            client.deploy(function, name=name, endpoint_type="async", max_workers=1, **SMALL)
        given = {"content-type": "application/octet-stream", "prefer": "wait=60"}
        wanted = {"prefer": "wait=60"}
        # Its processes and threads are there before memory is counted.
        assert raw.post("/e/tm-size", content=b"x" * MIB, headers=given).json() == MIB
        assert raw.post("/e/tm-made", json={"size": 10}, headers=wanted).status_code == 200
        pid, data = client.server.pid, os.urandom(SIZE)
        for sent in (
            {"url": "/e/tm-size", "content": data, "headers": given},
            {"url": "/e/tm-made", "json": {"size": SIZE}, "headers": wanted},
        ):
            Path(f"/proc/{pid}/clear_refs").write_text("5")
            before = memory(pid, "VmRSS")
            assert raw.post(**sent).status_code == 200
            assert memory(pid, "VmHWM") - before < 2.5 * SIZE  # in JSON, a third more than the file
