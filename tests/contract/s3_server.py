"""A real S3 server on this machine: SeaweedFS, with a bucket `artifacts`."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from obstore.exceptions import BaseError
from obstore.store import S3Store

WEED = Path(sys.executable).with_name("weed")
BUCKET = "artifacts"
ACCESS_KEY, SECRET_KEY = "openlaunch-tests", "a-secret-key-of-the-tests"
START_SECONDS = 60


@dataclass
class S3Server:
    """Where it listens, and its process."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """What a program needs in its environment to use it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have it stand still, with every connection open."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def store(self, prefix: str = "") -> S3Store:
        """The bucket, for tests that look at it beside the program."""
        return S3Store(
            BUCKET,
            prefix=prefix or None,
            endpoint=self.endpoint,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            region="us-east-1",
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run it in a folder until the end of the block."""
    ports = _free_ports(10)
    names = [
        f"{part}.port{kind}"
        for part in ("s3", "master", "volume", "filer", "admin")
        for kind in ("", ".grpc")
    ]
    options = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "bucket": BUCKET,
        "admin.ui": "false",
        "webdav": "false",
        "s3.iam": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.autoCreateBucket": "false",
        **dict(zip(names, ports, strict=True)),
    }
    environ = {**os.environ, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            [WEED, "mini", *(f"-{name}={value}" for name, value in options.items())],
            env=environ,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = S3Server(ports[0], process)
    try:
        _wait_until_ready(server, folder)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _remove_sockets(ports)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_until_ready(server: S3Server, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            server.store().put("ready", b"1")
            return
        except (BaseError, FileNotFoundError) as error:  # the bucket is made after the server listens
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((folder / "weed.log").read_text()[-3000:]) from error
            time.sleep(0.05)


def _remove_sockets(ports: list[int]) -> None:
    """It makes them in /tmp, under names of its ports."""
    for port in ports:
        for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            with suppress(FileNotFoundError):
                path.unlink()
