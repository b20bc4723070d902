"""Plays the server for one real worker process: listens on a unix socket and speaks frames."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cloudpickle

from openlaunch_worker.documents import Limits, Start
from openlaunch_worker.frames import (
    BUNDLE_PIECE,
    CREDIT_BODY,
    REQUEST_HEAD,
    Flags,
    FrameParser,
    Kind,
    Outcome,
    encode,
)

TIMEOUT = 20.0
TOKEN = "the-token-of-this-worker"
Frame = tuple[int, int, bytes]
LIMITS = {"max_result_bytes": 1 << 24, "max_url_bytes": 1 << 20, "url_timeout": 5.0, "allow_private": True}
LOOP_ENV: dict[str, str] = {}
"""Says which event loop workers use; set by the fixture `each_loop`."""


def returning(predict: Callable[..., Any]) -> dict[str, Any]:
    """The two functions of a bundle whose predict function this is."""
    return {"load_model_fn": lambda: None, "load_predict_fn": lambda model: predict}


def zip_of(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


class Worker:
    """One worker process; `with` starts it, and ends it whatever happens."""

    def __init__(
        self,
        bundle: Any,
        flavor: Mapping[str, Any] | None = None,
        *,
        per_worker: int = 4,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        streaming: bool = False,
        **limits: Any,
    ) -> None:
        self._bundle = bundle if isinstance(bundle, bytes) else cloudpickle.dumps(bundle)
        flavor = {"flavor": "cloudpickle_artifact", "app_config": None, **(flavor or {})}
        self._start = Start(flavor, Limits(per_worker, **{**LIMITS, **limits}), streaming)
        self._folder = tempfile.TemporaryDirectory(prefix="worker-test-")
        self.folder = Path(self._folder.name)
        self._python = python
        self._env = dict(env or {})
        self._parser = FrameParser()
        self._frames: deque[Frame] = deque()
        self._last_id = 0

    def __enter__(self) -> Self:
        address = str(self.folder / "s")
        with socket.socket(socket.AF_UNIX) as listener, (self.folder / "log").open("wb") as log:
            listener.bind(address)
            listener.listen()
            listener.settimeout(TIMEOUT)
            env = {
                "PATH": os.environ["PATH"],
                "OPENLAUNCH_WORKER_ADDRESS": address,
                "OPENLAUNCH_WORKER_TOKEN": TOKEN,
                **LOOP_ENV,
                **self._env,
            }
            self.process = subprocess.Popen(
                [self._python, "-W", "error", "-m", "openlaunch_worker"],
                env=env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self.socket, _ = listener.accept()
        self.socket.settimeout(TIMEOUT)
        self._shake_hands()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if kind is not None:
            print(self.log())
        self.socket.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(TIMEOUT)
        self._folder.cleanup()

    def _shake_hands(self) -> None:
        kind, _, payload = self.frame()
        assert kind == Kind.HELLO
        self.hello = json.loads(payload)
        self.send(Kind.START, 0, json.dumps(self._start.to_json()).encode())
        for start in range(0, len(self._bundle), BUNDLE_PIECE):
            self.send(Kind.BUNDLE, 0, self._bundle[start : start + BUNDLE_PIECE])
        self.send(Kind.BUNDLE, 0)

    def send(self, kind: Kind, request_id: int, payload: bytes = b"") -> None:
        self.socket.sendall(encode(kind, request_id, payload))

    def frame(self, timeout: float = TIMEOUT) -> Frame:
        """The next frame; EOFError where the worker has closed the connection."""
        self.socket.settimeout(timeout)
        while not self._frames:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError("the worker closed the connection")
            self._frames.extend(f for f in self._parser.feed(data) if f[0] not in (Kind.HEARD, Kind.BATCH))
        return self._frames.popleft()

    def ready(self) -> Self:
        """Wait for READY."""
        kind, _, payload = self.frame()
        assert kind == Kind.READY, payload
        self.greeting = json.loads(payload)
        return self

    def load_failure(self) -> dict[str, Any]:
        """Wait for LOAD_FAILED."""
        kind, _, payload = self.frame()
        assert kind == Kind.LOAD_FAILED, payload
        failure: dict[str, Any] = json.loads(payload)
        return failure

    def request(
        self, document: Any, flags: Flags = Flags.NONE, deadline: float = 0.0, *, raw: bytes | None = None
    ) -> int:
        """Send a request and return its id."""
        self._last_id += 1
        body = raw if raw is not None else json.dumps(document).encode()
        self.send(Kind.REQUEST, self._last_id, REQUEST_HEAD.pack(int(flags), deadline) + body)
        return self._last_id

    def answer(self, timeout: float = TIMEOUT) -> tuple[int, Outcome, bytes]:
        """The next frame, which has to be a RESULT, as (request id, outcome, body)."""
        kind, request_id, payload = self.frame(timeout)
        assert kind == Kind.RESULT, (kind, payload)
        return request_id, Outcome(payload[0]), payload[1:]

    def call(self, document: Any, flags: Flags = Flags.NONE, deadline: float = 0.0) -> dict[str, Any]:
        """Send a request and return its JSON answer."""
        sent = self.request(document, flags, deadline)
        request_id, outcome, body = self.answer()
        assert request_id == sent
        answer: dict[str, Any] = json.loads(body)
        assert (outcome == Outcome.SUCCESS) == (answer["status"] == "SUCCESS")
        return answer

    def value(self, **args: Any) -> Any:
        """What predict returns for these args."""
        answer = self.call({"args": args})
        assert answer["status"] == "SUCCESS", answer["traceback"]
        return json.loads(answer["result"]["result"])

    def stream(self, document: Any, deadline: float = 0.0) -> tuple[list[bytes], Outcome, bytes]:
        """Run a stream to its end with credit for all: (chunks, outcome, last bytes)."""
        sent = self.request(document, Flags.STREAM, deadline)
        chunks = []
        while True:
            kind, request_id, payload = self.frame()
            assert request_id == sent
            if kind == Kind.END:
                return chunks, Outcome(payload[0]), payload[1:]
            assert kind == Kind.CHUNK
            chunks.append(payload)
            self.credit(sent, len(payload))

    def credit(self, request_id: int, size: int) -> None:
        self.send(Kind.CREDIT, request_id, CREDIT_BODY.pack(size))

    def exit_code(self, timeout: float = TIMEOUT) -> int:
        return self.process.wait(timeout)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def wait_for_log(self, text: str) -> None:
        """Wait until the worker's log has this text."""
        wait_until(lambda: text in self.log())


def wait_until(condition: Callable[[], object], timeout: float = TIMEOUT) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def events(data: bytes) -> list[dict[str, Any]]:
    """The documents of the `data:` events in a piece of a stream."""
    return [json.loads(event[6:]) for event in data.split(b"\n\n") if event.startswith(b"data: ")]


def items(data: bytes) -> list[Any]:
    """The items of a piece of a stream."""
    return [event["result"]["result"] for event in events(data)]
