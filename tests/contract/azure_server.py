"""Azure's own emulator of its storage, Azurite, on this machine, with a container `artifacts`."""

import base64
import hashlib
import hmac
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import httpx2

AZURITE = Path(sys.prefix) / "azurite/node_modules/azurite/dist/src/blob/main.js"
"""Where `make test-slow` installs it, if npm is there."""
CONTAINER = "artifacts"
ACCOUNT = "tests"
VERSION = "2021-08-06"
START_SECONDS = 60


def why_not() -> str | None:
    """Say what is missing to run it."""
    if shutil.which("node") is None:
        return "there is no Node.js"
    return None if AZURITE.exists() else "Azurite is not installed: `make test-slow` does that"


@dataclass
class AzureServer:
    """Where it listens, its account's key, and its process."""

    port: int
    key: str
    process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    @property
    def environ(self) -> dict[str, str]:
        """What a program needs in its environment to use it."""
        return {
            "AZURE_STORAGE_ENDPOINT": self.endpoint,
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": self.key,
        }

    def make_container(self) -> None:
        """Make it, which obstore can't."""
        date = formatdate(usegmt=True)
        signed = (
            f"PUT{12 * chr(10)}x-ms-date:{date}\nx-ms-version:{VERSION}\n"
            f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
        )
        digest = hmac.digest(base64.b64decode(self.key), signed.encode(), hashlib.sha256)
        signature = base64.b64encode(digest).decode()
        headers = {
            "x-ms-date": date,
            "x-ms-version": VERSION,
            "authorization": f"SharedKey {ACCOUNT}:{signature}",
        }
        url = f"{self.endpoint}/{CONTAINER}?restype=container"
        httpx2.put(url, headers=headers, timeout=30).raise_for_status()


@contextmanager
def azure_server(folder: Path) -> Iterator[AzureServer]:
    """Run it in a folder until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    options = ["--location", folder, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent"]
    with (folder / "azurite.log").open("wb") as log:
        process = subprocess.Popen(
            [str(shutil.which("node")), AZURITE, *options, "--skipApiVersionCheck", "--disableTelemetry"],
            env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    server = AzureServer(port, key, process)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                server.make_container()
                break
            except httpx2.ConnectError:
                assert process.poll() is None, (folder / "azurite.log").read_text()
                assert time.monotonic() < deadline, (folder / "azurite.log").read_text()
                time.sleep(0.05)
        yield server
    finally:
        process.kill()
        process.wait()
