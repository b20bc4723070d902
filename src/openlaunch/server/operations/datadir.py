"""The data directory: its layout, the lock that one server holds, and the credentials file."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openlaunch.errors import ConfigurationError
from openlaunch.server.operations.own_keys import OwnKeys
from openlaunch.server.operations.places import Places
from openlaunch.server.operations.private_file import write_private
from openlaunch.trash import discard, discard_leftovers


class DataDir:
    """Where everything durable lies.

    ::

    D/openlaunch.db     records         D/logs/             logs of workers and of environment builds
    D/artifacts/        bytes           D/credentials.json  URL and first API key, mode 0600
    D/environments/     virtual         D/url-secret        key of the signed URLs, mode 0600
                        environments    D/lock              held while a server runs
    D/workers/          each worker's folder while it runs; emptied at start
    D/runtime/          the worker runtime, which every environment uses
    D/uv-cache/         what each owner's builds have downloaded, unless UV_CACHE_DIR names another folder
    D/caches/           what each owner's workers have downloaded, and prefetches
    D/jobs/             configurations of docker-image batch jobs while they live
    D/epochs.json       of an agent: the newest leaders that it has seen
    D/drain             of an agent: its node gets no further workers
    D/agent-address     of an agent: where it listens, held while it does
    D/agent.log         of an agent in the background
    D/nodes.json        where the agents were last that a cluster's scheduler had started
    D/secrets-key       keys of secrets, mode 0600; no backup has it
    D/artifacts-url     the bucket in which the artifacts are, where that is not the folder
    D/records-elsewhere where the records are, if not here; D/moved-openlaunch.db had them before
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.database = self.root / "openlaunch.db"
        self.artifacts = self.root / "artifacts"
        self.environments = self.root / "environments"
        self.uv_caches = Path(os.environ.get("UV_CACHE_DIR") or self.root / "uv-cache").resolve()
        self.caches = self.root / "caches"
        self.logs = self.root / "logs"
        self.workers = self.root / "workers"
        self.jobs = self.root / "jobs"
        self.drain_mark = self.root / "drain"
        self.epochs = self.root / "epochs.json"
        self.known_nodes = self.root / "nodes.json"
        self.agent_log = self.root / "agent.log"
        self.agent_address = self.root / "agent-address"
        self.credentials = self.root / "credentials.json"
        self.keys = OwnKeys(self.root)
        self.places = Places(self.root, self.database, self.artifacts)

    @property
    def digest(self) -> str:
        """A name of this directory on what lies outside of it, such as containers."""
        return hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:16]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directory and hold its lock, which the kernel releases too when the process is killed."""
        try:
            for folder in (self.root, self.artifacts, self.environments, self.logs, self.workers):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self.root / "lock").open("a+")
        except OSError as error:
            raise ConfigurationError(
                f"the data directory {self.root} can't be used: {error.strerror}; name another with --data-dir"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                raise ConfigurationError(
                    f"another server (process {lock.read().strip() or 'unknown'}) uses the data directory "
                    f"{self.root}: stop it first, or name another directory with --data-dir"
                ) from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            self._empty_workers()
            yield

    def _empty_workers(self) -> None:
        """Remove what a server that was killed, and its workers, have left behind."""
        for folder in (self.root, self.environments):
            discard_leftovers(folder)
        discard(self.workers)
        self.workers.mkdir(mode=0o700)

    def read_api_key(self) -> str | None:
        """Return the key in the credentials file, if there is a readable one."""
        try:
            key = json.loads(self.credentials.read_text())["api_key"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return key if isinstance(key, str) else None

    def write_credentials(self, url: str, api_key: str) -> None:
        """Write `{"url", "api_key"}`, readable by the owner alone, whole or not at all."""
        write_private(self.credentials, json.dumps({"url": url, "api_key": api_key}) + "\n")
