"""A private server, for a notebook or a test."""

import atexit
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openlaunch.client.client import LaunchClient
from openlaunch.client.config import CREDENTIALS_FILE
from openlaunch.client.forks import bury, hold
from openlaunch.errors import ConfigurationError

START_SECONDS = 60.0
STOP_SECONDS = 45.0
POLL_SECONDS = 0.02
MAX_LOG_BYTES = 4000


class LocalServer:
    """A server of its own, on a free port of 127.0.0.1, with a temporary data directory unless one is named.

    It is stopped by `close()`, at the end of a `with` statement, or with the program, also when that is killed. In a
    process that was forked from the program, none of this stops it.

    What is deployed is the program's own code, so its workers see and write the files that the program does, unless
    `OPENLAUNCH_ISOLATION` asks for more.

    Attributes:
        url: where it listens.
        api_key: of its admin.
        data_dir: with its records, bundles and `server.log`.
        pid: of its process.
    """

    def __init__(
        self,
        data_dir: str | Path | None = None,
        *,
        timeout: float = START_SECONDS,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Start it, with these of the server's settings by name, and wait until it accepts requests.

        Raises:
            ConfigurationError: the server's own dependencies are not installed, or it did not start in
                `timeout` seconds; the message has the end of its log.
        """
        if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("fastapi") is None:
            raise ConfigurationError(
                "a local server needs more than the client: pip install 'openlaunch[server]'"
            )
        if not isinstance(data_dir, str | Path | None):
            raise TypeError(f"data_dir is {data_dir!r:.100}: the path of a folder is needed")
        self._temporary = data_dir is None
        self.data_dir = Path(data_dir or tempfile.mkdtemp(prefix="openlaunch-data-")).resolve()
        self._owner = os.getpid()
        self._settings = {f"OPENLAUNCH_{name.upper()}": value for name, value in (settings or {}).items()}
        self._process = self._start()
        atexit.register(self.close)
        hold(self)
        try:
            self.url = self._wait_until_ready(time.monotonic() + timeout)
            self.api_key = str(json.loads((self.data_dir / CREDENTIALS_FILE).read_text())["api_key"])
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"LocalServer(url={self.url!r}, data_dir={str(self.data_dir)!r})"

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def _start(self) -> subprocess.Popen[bytes]:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        what = "temporary" if self._temporary else "kept"
        command = [sys.executable, "-P", "-m", "openlaunch.cli.private_server", str(self.data_dir), what]
        with self._output.open("wb") as output, self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # which ends with this process, however that ends
                stdout=output,
                stderr=log,
                env={**_defaults(), **os.environ, "PYTHONUNBUFFERED": "1", **self._settings},
                # Ctrl-C is for this program alone, which then stops the server in good order.
                start_new_session=True,
            )

    @property
    def _output(self) -> Path:
        return self.data_dir / "server.out"

    @property
    def _log(self) -> Path:
        return self.data_dir / "server.log"

    def _wait_until_ready(self, deadline: float) -> str:
        while True:
            for line in self._output.read_text().splitlines(keepends=True):
                if line.startswith("ready ") and line.endswith("\n"):
                    return line.removeprefix("ready ").strip()
            code = self._process.poll()
            if code is not None:
                raise ConfigurationError(f"the local server ended with exit code {code}: {self._log_end()}")
            if time.monotonic() > deadline:
                raise ConfigurationError(f"the local server did not start in time: {self._log_end()}")
            time.sleep(POLL_SECONDS)

    def _log_end(self) -> str:
        text = self._log.read_bytes()[-MAX_LOG_BYTES:].decode("utf-8", "replace").strip()
        return text or "it wrote no log"

    def close(self) -> None:
        """Stop the server and remove its temporary directory; harmless when called twice, and in forked processes.

        With a temporary directory, what runs is broken off; else it has `drain_seconds`, as with `openlaunch serve`.
        """
        atexit.unregister(self.close)
        if os.getpid() != self._owner:
            return
        if self._process.poll() is None:
            # Nobody gets what runs in a temporary folder.
            self._process.send_signal(signal.SIGQUIT if self._temporary else signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def forget(self) -> None:
        """Leave the server to the program that started it, in a process that was forked from that."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        atexit.unregister(self.close)
        bury(self._process)

    def __enter__(self) -> "LocalServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _defaults() -> dict[str, str]:
    """Return the settings of private servers, which serve this program alone: no isolation, and one cache for all."""
    if "OPENLAUNCH_ISOLATION" in os.environ:
        return {}
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    writable = os.access(caches if caches.exists() else caches.parent, os.W_OK)
    cache = {"UV_CACHE_DIR": str(caches / "openlaunch" / "uv")} if writable else {}
    return {"OPENLAUNCH_ISOLATION": "off", **cache}


class LocalClient(LaunchClient):
    """A client with a server of its own, which ends with it; made by `openlaunch.local`."""

    def __init__(self, server: LocalServer, **options: Any) -> None:
        self.server = server
        super().__init__(server.api_key, server.url, **options)

    def close(self) -> None:
        """Close the connections and stop the server; harmless when called twice."""
        super().close()
        self.server.close()


def local(data_dir: str | Path | None = None, **options: Any) -> LocalClient:
    """Start a private server and give a client that is connected to it.

    ::

        with openlaunch.local() as client:
            endpoint = client.deploy(lambda x: 2 * x, name="double")

    Without `with`, the server runs until `client.close()` or the program's end.

    Args:
        data_dir: kept for the next time; a temporary directory where it is not given.
        **options: `timeout` and `max_retries`, as `LaunchClient` has them.

    Raises:
        ConfigurationError: the server's own dependencies are not installed, or it did not start.
    """
    server = LocalServer(data_dir)
    try:
        return LocalClient(server, **options)
    except BaseException:
        server.close()
        raise
