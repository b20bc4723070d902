"""A server whose PostgreSQL is taken back to a point in time, with the settings and commands of the documentation."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_server import ChaosServer
from postgres_server import PostgresServer, binaries
from server_driver import SMALL, args, eventually

from openlaunch import LaunchClient
from openlaunch.errors import NotFound

PAGE = Path(__file__).parents[2] / "docs/how-to/keep-records-in-postgresql.md"
MOMENT = "2026-11-28 12:00:00+00"
"""The one in the documentation."""
BIG = "x" * 400_000
"""More than what is kept in the database."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (binaries() / "pg_basebackup").exists(), reason="there is no pg_basebackup"),
]


def documented(backup: Path) -> list[str]:
    """The settings of PostgreSQL in the documentation, for this folder of backups: to archive, and to go back."""
    section = PAGE.read_text().partition("## Go back to a point in time")[2]
    found: list[str] = re.findall(r"```ini\n(.*?)```", section, re.DOTALL)
    return [block.replace("/backup/", f"{backup}/") for block in found]


def echo(text="", number=0, go=None):
    import time
    from pathlib import Path

    while go is not None and not Path(go).exists():
        time.sleep(0.01)
    return [number, len(text)]


@pytest.fixture
def backup() -> Iterator[Path]:
    """A folder in which PostgreSQL's user can make others."""
    with tempfile.TemporaryDirectory(prefix="openlaunch-backup-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_a_server_goes_back_to_a_moment_and_loses_nothing_of_before(tmp_path: Path, backup: Path) -> None:
    archive, recover = documented(backup)
    postgres = PostgresServer(*(re.sub(r" = '?(.*?)'?$", r"=\1", line) for line in archive.splitlines()))
    postgres.folder_on(backup, "log")
    go = tmp_path / "go"
    with postgres:
        postgres.execute("CREATE DATABASE records")
        postgres.back_up(backup / "base")
        server = ChaosServer(tmp_path / "data", store=postgres.url("records"), drain_seconds=0)
        with server, LaunchClient(server.api_key, server.url) as client:
            settings = {"endpoint_type": "async", "max_workers": 1, "per_worker": 4, **SMALL}
            endpoint = client.deploy(echo, name="echo", **settings)
            done = endpoint.predict_many([args(number=n, text=BIG if n == 3 else "") for n in range(4)])
            assert [future.get(60).value[0] for future in done] == [0, 1, 2, 3]
            waiting = endpoint.predict_many([args(number=n, go=str(go)) for n in range(8)])
            eventually(lambda: postgres.one("SELECT count(*) FROM queue", "records") == 8)
            moment = str(postgres.one("SELECT clock_timestamp()::text"))
            later = endpoint.predict(args(number=9, go=str(go)))
            client.delete_model_endpoint("echo")
            eventually(lambda: client.list_model_endpoints() == [])
        log_file = postgres.one("SELECT pg_walfile_name(pg_switch_wal())")
        eventually(lambda: (backup / "log" / str(log_file)).exists())
        postgres.stop()
        postgres.go_back(backup / "base", recover.replace(MOMENT, moment))
        postgres.start()
        eventually(lambda: not postgres.one("SELECT pg_is_in_recovery()"))
        go.touch()
        with server, LaunchClient(server.api_key, server.url) as client:
            assert [client.future(each.async_task_id).get(60).value[0] for each in waiting] == [*range(8)]
            assert [client.future(each.async_task_id).get(60).value[0] for each in done] == [0, 1, 2, 3]
            assert client.future(done[3].async_task_id).get(60).value == [3, len(BIG)]
            with pytest.raises(NotFound):
                client.future(later.async_task_id).get(1)
            assert client.get_model_endpoint("echo").predict(args(number=5)).get(60).value == [5, 0]
