"""What a large body costs: `bodies.py SECONDS`, 10 MiB in and one number out, beside a raw uvicorn app.

Prints one line of JSON: MiB/s of our server for a body that is one file, for a form, for a tensor of the Open
Inference Protocol and for JSON with a `data:` URL, and of the app, which reads the same body; and how far our
server's memory rose at its peak, in bodies. The five take turns.
"""

import base64
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

import openlaunch

SIZE = 10 * 2**20
MIB = 2**20
ROUNDS = 8
OCTETS = "application/octet-stream"
FORM = "multipart/form-data; boundary=------------------------0123456789abcdef"
DELIMITER = b"--------------------------0123456789abcdef"


def length(data: bytes) -> int:
    return len(data)


def size(x: np.ndarray) -> int:
    return x.size


def form_of(data: bytes) -> bytes:
    head = b'\r\nContent-Disposition: form-data; name="data"; filename="data.bin"\r\n\r\n'
    return DELIMITER + head + data + b"\r\n" + DELIMITER + b"--\r\n"


def tensor_of(data: bytes) -> tuple[bytes, str]:
    """Return a body of the Open Inference Protocol, and how much of it is JSON."""
    tensor = {"name": "x", "datatype": "UINT8", "shape": [SIZE], "parameters": {"binary_data_size": SIZE}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + data, str(len(head))


class Caller:
    """Sends one body over one connection, again and again."""

    def __init__(
        self, url: str, path: str, body: bytes, media_type: str, key: str = "", head_size: str = ""
    ) -> None:
        where = urlsplit(url)
        self._connection = http.client.HTTPConnection(where.hostname or "", where.port)
        self._path, self._body = path, body
        self._headers = {"Content-Type": media_type, "Authorization": f"Bearer {key}"}
        if head_size:
            self._headers["Inference-Header-Content-Length"] = head_size

    def call(self) -> float:
        """Send the body, and return the seconds until its answer."""
        began = time.perf_counter()
        self._connection.request("POST", self._path, self._body, self._headers)
        answer = self._connection.getresponse().read()
        took = time.perf_counter() - began
        value = json.loads(answer)
        assert int(value if type(value) is int else value["outputs"][0]["data"][0]) >= SIZE, answer
        return took


def memory(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) * 1024


def raw_app() -> tuple[str, subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "raw_body:app", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=Path(__file__).parent)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return f"http://127.0.0.1:{port}", process


def main() -> None:
    seconds = float(sys.argv[1])
    data = os.urandom(SIZE)
    as_url = json.dumps({"data": "data:;base64," + base64.b64encode(data).decode()}).encode()
    tensor, head_size = tensor_of(data)
    raw, app = raw_app()
    try:
        with openlaunch.local() as client:
            client.deploy(length, name="length")
            client.deploy(size, name="size", requirements=["numpy"])
            url, key = client.server.url, client.server.api_key
            callers = {
                "raw app": Caller(raw, "/", data, OCTETS),
                "file": Caller(url, "/e/length", data, OCTETS, key),
                "form": Caller(url, "/e/length", form_of(data), FORM, key),
                "tensor": Caller(url, "/v2/models/size/infer", tensor, OCTETS, key, head_size),
                "json": Caller(url, "/e/length", as_url, "application/json", key),
            }
            print(json.dumps(measured(callers, seconds, client.server.pid)))
    finally:
        app.terminate()
        app.wait()


def measured(callers: dict[str, Caller], seconds: float, pid: int) -> dict[str, float]:
    for name in ("raw app", "file"):
        callers[name].call()
    before = memory(pid, "VmRSS")
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    for _ in range(5):
        callers["file"].call()
    rise = (memory(pid, "VmHWM") - before) / SIZE
    times: dict[str, list[float]] = {name: [] for name in callers}
    for _ in range(ROUNDS):
        for name, caller in callers.items():
            until = time.perf_counter() + seconds / ROUNDS / len(callers)
            while not times[name] or time.perf_counter() < until:
                times[name].append(caller.call())
    rates = {name: SIZE / MIB / statistics.median(took) for name, took in times.items()}
    return {**rates, "bodies of memory": rise}


if __name__ == "__main__":
    main()
