"""Attackers, a process each: `python attackers.py KIND URL KEY SECONDS SEED [ENDPOINTS]`, against a server.

It prints a JSON object: how many times it made each move. An attack may fail in any way; only others' requests count.
"""

import contextlib
import json
import mmap
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from openlaunch import LaunchClient
from openlaunch.errors import OpenlaunchError

HELD = 60
"""Connections that an attacker keeps open at a time."""

SECONDS = 3.0
"""How long an attacker waits for an answer."""

SMALL = {"cpus": 0.1, "memory": "64Mi"}


class Stranger:
    """Has no key: connections and bytes that are no requests, or that never end."""

    def __init__(self, url: str, key: str, chance: random.Random) -> None:
        self.url = url
        self.key = key
        self.chance = chance
        address = urlsplit(url)
        self._address = (address.hostname or "", address.port or 80)
        self._held: deque[socket.socket] = deque()

    def connect(self) -> socket.socket:
        """Open a connection that is kept until others take its place."""
        connection = socket.create_connection(self._address, SECONDS)
        self._held.append(connection)
        if len(self._held) > HELD:
            self._held.popleft().close()
        return connection

    def send(self, *parts: bytes) -> socket.socket:
        connection = self.connect()
        for part in parts:
            connection.sendall(part)
        return connection

    def close(self) -> None:
        while self._held:
            self._held.pop().close()

    def try_idle(self) -> None:
        for _ in range(20):
            self.connect()

    def try_half_a_head(self) -> None:
        self.send(b"POST /v1/sync-tasks HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * self.chance.randrange(60_000))

    def try_noise(self) -> None:
        self.send(self.chance.randbytes(4096))

    def try_long_head(self) -> None:
        self.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000)

    def try_endless_trailers(self) -> None:
        head = b"POST /v1/keys HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        self.send(head, *[b"X-T: " + b"t" * 1000 + b"\r\n"] * 1000)

    def try_tiny_chunks(self) -> None:
        head = b"POST /v1/sync-tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.send(head, b"1\r\na\r\n" * 20_000)

    def try_big_body(self) -> None:
        self.send(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n", b"a" * 1_000_000)

    def try_upgrade(self) -> None:
        body = b"GET /v1/keys HTTP/1.1\r\nHost: x\r\n\r\n"
        head = b"POST /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        self.send(head + b"Content-Length: %d\r\n\r\n" % len(body), body)

    def try_openapi_unread(self) -> None:
        self.send(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 20)

    def try_wrong_key(self) -> None:
        self.send(b"GET /v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ol_wrong\r\n\r\n" * 20)


class Caller(Stranger):
    """Has a key that may predict, of an endpoint that is public: large, wrong and abandoned requests."""

    def __init__(self, url: str, key: str, chance: random.Random, endpoint: str, stream: str) -> None:
        super().__init__(url, key, chance)
        self._sync = f"/v1/sync-tasks?model_endpoint_id={endpoint}"
        self._stream = f"/v1/streaming-tasks?model_endpoint_id={stream}"
        self._http = httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=SECONDS)

    def close(self) -> None:
        super().close()
        self._http.close()

    def head(self, path: str, length: int, *fields: str) -> bytes:
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: x\r\nAuthorization: Bearer {self.key}",
            f"Content-Length: {length}",
            *fields,
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def post(self, path: str, body: str, *fields: str) -> bytes:
        return self.head(path, len(body), *fields) + body.encode()

    def try_garbage_behind_a_stream(self) -> None:
        body = '{"args": {"n": 1, "seconds": 0.2}}'
        garbage = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        self.send(self.post(self._stream, body), garbage)

    def try_leave(self) -> None:
        self.send(self.post(self._stream, '{"args": {"n": 1, "seconds": 30}}')).close()

    def try_pipeline(self) -> None:
        self.send(self.post(self._sync, '{"args": {"n": 1}}') * 50)

    def try_small_elements(self) -> None:
        self.send(self.post(self._sync, '{"args": {"n": [' + "[]," * 1_000_000 + "[]]}}"))

    def try_large_answer_unread(self) -> None:
        self.send(self.post(self._sync, '{"args": {"n": 1, "size": 4000000}}'))

    def try_large_controls(self) -> None:
        for path in ("/v1/model-endpoints", "/v1/keys", "/v1/async-tasks/wait"):
            with contextlib.suppress(httpx2.HTTPError):
                self._http.post(path, content='{"task_ids": [' + '"a",' * 300_000 + '"a"]}')

    def try_forbidden(self) -> None:
        for _ in range(20):
            self._http.post("/v1/keys", json={"owner": "somebody", "role": "admin"})

    def try_long_credentials(self) -> None:
        for n in range(20):
            padded = f"Bearer {self.key}" + " " * (20_000 + n)
            self._http.get("/v1/model-endpoints", headers={"Authorization": padded})

    def try_many_names(self) -> None:
        for n in range(50):
            self._http.get(f"/v1/async-tasks/{n}-{self.chance.random()}", headers={"Idempotency-Key": str(n)})


def evil(what=""):
    """Do what code can do to the machine."""
    moves = {
        "crash": crash,
        "daemon": daemon,
        "print": flood,
        "memory": fill_memory,
        "disk": fill_disk,
        "signal": signal,
    }
    return moves.get(what, int)()


def crash():
    os._exit(3)


def daemon():
    for _ in range(5):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)


def flood():
    until = time.monotonic() + 1
    while time.monotonic() < until:
        os.write(1, b"x" * 99 + b"\n")


def fill_memory():
    shared = mmap.mmap(-1, 512 << 20)
    for i in range(0, 512 << 20, mmap.PAGESIZE):
        shared[i] = 1


def fill_disk():
    with Path("big").open("wb") as file:
        file.writelines(b"x" * (1 << 20) for _ in range(200))


def signal():
    os.kill(
        os.getppid(), 15
    )  # no other: where nothing isolates a worker, it could be any process of this machine


MOVES = ("crash", "daemon", "print", "memory", "disk", "signal")


class User(Caller):
    """Has a key that may deploy: hostile code, floods, and everything that others wait for."""

    def __init__(self, url: str, key: str, chance: random.Random, endpoint: str, stream: str) -> None:
        super().__init__(url, key, chance, endpoint, stream)
        self._client = LaunchClient(key, url, max_retries=0, timeout=10.0)
        self._evil = self._deploy("evil", "sync")
        self._tasks = self._deploy("evil-tasks", "async")
        self._pit = socket.create_server(("127.0.0.1", 0), backlog=200)

    def close(self) -> None:
        super().close()
        self._pit.close()
        self._client.close()

    def _deploy(self, name: str, kind: str):
        return self._client.deploy(evil, name=name, endpoint_type=kind, min_workers=1, max_workers=2, **SMALL)

    def _pit_url(self) -> str:
        return f"http://127.0.0.1:{self._pit.getsockname()[1]}/"

    def _submit(self, count: int, **fields: object) -> None:
        path = f"/v1/async-tasks/bulk?model_endpoint_id={self._tasks.model_endpoint.id}"
        self._http.post(path, json={"requests": [{"args": {}, **fields}] * count})

    def try_code(self) -> None:
        what = self.chance.choice(MOVES)
        path = f"/v1/sync-tasks?model_endpoint_id={self._evil.model_endpoint.id}"
        self._http.post(path, json={"args": {"what": what}})

    def try_poison(self) -> None:
        self._submit(20, args={"what": "crash"})

    def try_callbacks(self) -> None:
        self._submit(100, callback_url=self._pit_url())

    def try_flap(self) -> None:
        for n in (0, 2, 1, 2):
            self._client.edit_model_endpoint(model_endpoint=self._evil, min_workers=n)

    def try_come_and_go(self) -> None:
        name = f"evil-{self.chance.randrange(10)}"
        self._client.deploy(evil, name=name, wait=False, max_workers=1, **SMALL)
        self._client.delete_model_endpoint(name)

    def try_build(self) -> None:
        requirement = f"x @ {self._pit_url()}x-{self.chance.random()}.tar.gz"
        name = f"evil-build-{self.chance.randrange(3)}"
        self._client.deploy(evil, name=name, requirements=[requirement], wait=False, max_workers=1, **SMALL)

    def try_lists(self) -> None:
        for status in ("STARTED", "FAILURE", "SUCCESS"):
            self._http.get("/v1/async-tasks", params={"status": status, "limit": 1000})

    def try_logs(self) -> None:
        path = f"/v1/model-endpoints/{self._evil.model_endpoint.id}/logs"
        self._http.get(path, params={"tail_bytes": 4_194_304})

    def try_metadata(self) -> None:
        path = f"/v1/model-endpoints/{self._evil.model_endpoint.id}"
        self._http.put(path, json={"metadata": {"a": "b" * 1_500_000}})


KINDS = {"stranger": Stranger, "caller": Caller, "user": User}


def attack(attacker: Stranger, seconds: float) -> Counter[str]:
    """Make all moves, in one order after the other, until the time is over. A move that meets an error ends there."""
    done: Counter[str] = Counter()
    moves = sorted(name for name in dir(attacker) if name.startswith("try_"))
    until = time.monotonic() + seconds
    while True:
        attacker.chance.shuffle(moves)
        for move in moves:
            if time.monotonic() > until:
                return done
            with contextlib.suppress(OSError, OpenlaunchError, httpx2.HTTPError):
                getattr(attacker, move)()
            done[move.removeprefix("try_")] += 1
            time.sleep(attacker.chance.uniform(0, 0.1))


@contextlib.contextmanager
def attacking(kind: str, url: str, key: str, seconds: float, seed: int, *more: str) -> Iterator[Counter[str]]:
    """Have an attacker beside this, as a process; the counter holds its moves once it has ended."""
    words = (kind, url, key, str(seconds), str(seed), *more)
    done: Counter[str] = Counter()
    process = subprocess.Popen([sys.executable, str(Path(__file__)), *words], stdout=subprocess.PIPE)
    try:
        yield done
        out, _ = process.communicate(timeout=seconds + 60)
        assert process.returncode == 0, kind
        done.update(json.loads(out))
    finally:
        process.kill()
        process.wait()


def main() -> None:
    kind, url, key, seconds, seed, *more = sys.argv[1:]
    chance = random.Random(int(seed))
    attacker = Stranger(url, key, chance) if kind == "stranger" else KINDS[kind](url, key, chance, *more)
    try:
        print(json.dumps(attack(attacker, float(seconds))))
    finally:
        attacker.close()


if __name__ == "__main__":
    main()
