"""The data directory: its layout, the lock that one server holds, and the credentials file."""

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openlaunch.errors import ConfigurationError
from openlaunch.trash import discard, discard_leftovers

SECRET_BYTES = 32


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
        self.root = root.expanduser().absolute()
        self.database = self.root / "openlaunch.db"
        self.artifacts = self.root / "artifacts"
        self.environments = self.root / "environments"
        self.uv_caches = Path(os.environ.get("UV_CACHE_DIR") or self.root / "uv-cache").absolute()
        self.caches = self.root / "caches"
        self.logs = self.root / "logs"
        self.workers = self.root / "workers"
        self.jobs = self.root / "jobs"
        self.drain_mark = self.root / "drain"
        self.epochs = self.root / "epochs.json"
        self.known_nodes = self.root / "nodes.json"
        self.agent_log = self.root / "agent.log"
        self._agent_address = self.root / "agent-address"
        self.credentials = self.root / "credentials.json"
        self._bucket = self.root / "artifacts-url"
        self._elsewhere = self.root / "records-elsewhere"

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

    @contextmanager
    def listening_at(self, address: str) -> Iterator[None]:
        """Say where the agent listens that has this directory, as long as it does."""
        with self._agent_address.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # who looks holds it for a moment only
            file.truncate(0)
            file.write(address)
            file.flush()
            yield

    def agent_address(self) -> str | None:
        """Return where the agent listens that has this directory; None where none does."""
        try:
            with self._agent_address.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return file.read() or None
        except FileNotFoundError:
            pass
        return None

    def _empty_workers(self) -> None:
        """Remove what a server that was killed, and its workers, have left behind."""
        for folder in (self.root, self.environments):
            discard_leftovers(folder)
        discard(self.workers)
        self.workers.mkdir(mode=0o700)

    @property
    def records_elsewhere(self) -> str | None:
        """The database that has the records of this directory, if they are not in its own."""
        return self._elsewhere.read_text().strip() if self._elsewhere.exists() else None

    def use_records(self, place: str | None) -> None:
        """Note which database has the records, None for the directory's own; raise ConfigurationError for another.

        What a server finds here that its records do not name, it deletes in time.
        """
        elsewhere = self.records_elsewhere
        if place is None and elsewhere is not None:
            raise ConfigurationError(
                f"the records of the data directory {self.root} are in the {elsewhere}: name that with --store or "
                "OPENLAUNCH_STORE, or another directory with --data-dir"
            )
        if place is not None and self.database.exists():
            raise ConfigurationError(
                f"the data directory {self.root} has records of its own, in {self.database.name}: name another "
                "with --data-dir, or move that file away if its records are not needed"
            )
        if place is not None:
            _write_private(self._elsewhere, place + "\n")

    def move_records_to(self, place: str) -> None:
        """Note that a database has the records from now on, and put the file that had them aside."""
        _write_private(self._elsewhere, place + "\n")
        for suffix in ("-wal", "-shm", ""):
            path = self.root / f"{self.database.name}{suffix}"
            if path.exists():
                path.replace(self.root / f"moved-{path.name}")

    def bring_records_back(self) -> None:
        """Note that the directory's own database has the records from now on."""
        self._elsewhere.unlink(missing_ok=True)

    def url_secret(self) -> bytes:
        """Return the key that signs URLs; it is made at the first call and kept, so that URLs outlive a restart."""
        path = self.root / "url-secret"
        if not path.exists():
            _write_private(path, secrets.token_hex(SECRET_BYTES))
        return bytes.fromhex(path.read_text().strip())

    def secrets_keys(self) -> list[str]:
        """Return the keys of secrets, the newest first; none where there are no secrets yet."""
        path = self.root / "secrets-key"
        return path.read_text().split() if path.exists() else []

    def write_secrets_keys(self, keys: list[str]) -> None:
        """Keep these keys of secrets in place of the others."""
        _write_private(self.root / "secrets-key", "".join(f"{key}\n" for key in keys))

    def take_url_secret(self, secret: bytes) -> None:
        """Keep the key that all servers of a cluster sign URLs with."""
        if secret != self.url_secret():
            _write_private(self.root / "url-secret", secret.hex())

    def mark(self) -> str:
        """Return what marks bytes that lie elsewhere as this directory's; a restored backup has the same."""
        return hashlib.sha256(b"artifacts\n" + self.url_secret()).hexdigest()[:32]

    @property
    def bucket(self) -> str:
        """The URL of the bucket in which the artifacts are; empty: they are in the folder."""
        return self._bucket.read_text().strip() if self._bucket.exists() else ""

    @bucket.setter
    def bucket(self, url: str) -> None:
        if url:
            _write_private(self._bucket, url + "\n")
        else:
            self._bucket.unlink(missing_ok=True)

    def check_bucket(self, url: str) -> None:
        """Raise ConfigurationError when the artifacts are not in this bucket, or where it is empty, in the folder."""
        if (kept := self.bucket) == url:
            return
        move = "or move them with `openlaunch migrate` first"
        if kept:
            raise ConfigurationError(
                f"the artifacts of the data directory {self.root} are in {kept}: "
                f"serve with --artifacts {kept}, {move}"
            )
        if any(names for _, _, names in os.walk(self.artifacts)):
            raise ConfigurationError(
                f"the artifacts of the data directory {self.root} are in its folder: "
                f"serve without --artifacts, {move}"
            )

    def read_api_key(self) -> str | None:
        """Return the key in the credentials file, if there is a readable one."""
        try:
            key = json.loads(self.credentials.read_text())["api_key"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return key if isinstance(key, str) else None

    def write_credentials(self, url: str, api_key: str) -> None:
        """Write `{"url", "api_key"}`, readable by the owner alone, whole or not at all."""
        _write_private(self.credentials, json.dumps({"url": url, "api_key": api_key}) + "\n")


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
