"""Backups of a running server, and servers on what was restored of them."""

import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import threading

import pytest
from server_driver import DEADLINE, SMALL, args, eventually, running

from openlaunch import EndpointResponseFuture, LaunchClient
from openlaunch.errors import ConfigurationError
from openlaunch.server.operations.backup import back_up, restore
from openlaunch.server.operations.datadir import DataDir

BIG = "x" * 400_000  # more than what is kept in the database


def echo(text="", number=0):
    return [number, len(text)]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "openlaunch.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A backup that was made under load: its file, the tasks that were accepted before it, a key that was made."""
    folder = tmp_path_factory.mktemp("saved")
    with running(folder / "data") as client:
        endpoint = client.deploy(
            echo, name="echo", endpoint_type="async", max_workers=1, per_worker=4, **SMALL
        )
        key = client.create_api_key("ada", role="user").api_key
        accepted = endpoint.predict_many([args(number=n) for n in range(200)])
        accepted += endpoint.predict_many([args(text=BIG, number=n) for n in range(200, 204)])
        over = threading.Event()

        def load():
            while not over.is_set():
                endpoint.predict_many([args(number=n) for n in range(50)])

        threads = [threading.Thread(target=load) for _ in range(2)]
        for thread in threads:
            thread.start()
        done = command("backup", folder / "backup.tar.gz", "--data-dir", folder / "data")
        over.set()
        for thread in threads:
            thread.join()
        assert done.returncode == 0, done.stderr
    return folder / "backup.tar.gz", [future.async_task_id for future in accepted], key


def test_every_task_that_was_accepted_before_the_backup_has_its_result_after_the_restore(saved, tmp_path):
    backup, tasks, key = saved
    done = command("restore", backup, "--data-dir", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert "openlaunch serve" in done.stderr
    with running(tmp_path / "new") as client:
        for number, task in enumerate(tasks):
            response = EndpointResponseFuture(client, "echo", task).get(DEADLINE)
            assert response.value == [number, len(BIG) if number >= 200 else 0]
        assert client.get_model_endpoint("echo").predict(args(number=7)).get(DEADLINE).value == [7, 0]
        assert "created" in [event.message for event in client.list_endpoint_events("echo").events]
        with LaunchClient(key, client.server.url) as other:
            assert other.list_model_endpoints() == []


def test_a_backup_is_for_its_owner_alone_and_leaves_nothing_beside_it(saved):
    backup, _, _ = saved
    assert backup.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in backup.parent.iterdir()} == {"data", "backup.tar.gz"}


def test_a_directory_that_is_used_stays_as_it_is(saved, tmp_path):
    (tmp_path / "precious").write_text("kept")
    done = command("restore", saved[0], "--data-dir", tmp_path)
    assert done.returncode == 2
    assert "precious" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_backup_does_not_replace_a_file(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "openlaunch.db").write_bytes(b"")
    (tmp_path / "there.tar").write_text("kept")
    done = command("backup", tmp_path / "there.tar", "--data-dir", tmp_path / "data")
    assert done.returncode == 2
    assert (tmp_path / "there.tar").read_text() == "kept"


def test_a_folder_without_a_database_is_refused(tmp_path):
    done = command("backup", tmp_path / "b.tar", "--data-dir", tmp_path)
    assert done.returncode == 2
    assert "--data-dir" in done.stderr


def test_a_backup_that_was_cut_is_refused_and_can_be_tried_again(saved, tmp_path):
    whole = saved[0].read_bytes()
    cut = tmp_path / "cut.tar.gz"
    for size in (0, 100, len(whole) // 2, len(whole) - 3000):
        cut.write_bytes(whole[:size])
        with pytest.raises(ConfigurationError, match="could not be restored"):
            restore(cut, DataDir(tmp_path / "new"))
        assert not (tmp_path / "new" / "openlaunch.db").exists()
    restore(saved[0], DataDir(tmp_path / "new"))


def remade(source, target, change):
    """A copy of a backup in which `change` has replaced a member's name and bytes."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            for name, data, kind in change(member.name, old.extractfile(member).read()):
                header = tarfile.TarInfo(name)
                header.size, header.type = len(data), kind
                if kind == tarfile.SYMTYPE:
                    header.linkname, header.size, data = data.decode(), 0, b""
                new.addfile(header, io.BytesIO(data))


def test_a_byte_that_was_changed_is_found(saved, tmp_path):
    def change(name, data):
        return [(name, data.replace(b"x" * 10, b"y" * 10) if name.startswith("artifacts/") else data, b"0")]

    remade(saved[0], tmp_path / "changed.tar", change)
    with pytest.raises(ConfigurationError, match="not as it was backed up"):
        restore(tmp_path / "changed.tar", DataDir(tmp_path / "new"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../outside", tarfile.REGTYPE),
        ("/outside", tarfile.REGTYPE),
        ("artifacts/../../outside", tarfile.REGTYPE),
        ("artifacts/link", tarfile.SYMTYPE),
        ("artifacts/.hidden", tarfile.REGTYPE),
        ("openlaunch.db", tarfile.REGTYPE),
    ],
)
def test_nothing_is_written_outside_and_no_link_is_followed(saved, tmp_path, name, kind):
    def change(old, data):
        added = [(name, b"/etc/passwd", kind)] if old == "url-secret" else []
        return [(old, data, tarfile.REGTYPE), *added]

    remade(saved[0], tmp_path / "evil.tar", change)
    with pytest.raises(ConfigurationError, match="does not belong into a backup"):
        restore(tmp_path / "evil.tar", DataDir(tmp_path / "a" / "new"))
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path / "a" / "outside").exists()


@pytest.mark.parametrize("document", [{"format": 99}, {}, "no document"])
def test_a_backup_of_another_format_is_refused(saved, tmp_path, document):
    def change(name, data):
        return [(name, json.dumps(document).encode() if name.endswith(".json") else data, tarfile.REGTYPE)]

    remade(saved[0], tmp_path / "other.tar", change)
    with pytest.raises(ConfigurationError, match=r"format|not made by openlaunch"):
        restore(tmp_path / "other.tar", DataDir(tmp_path / "new"))


def test_the_directory_of_a_running_server_is_never_restored_to(saved, tmp_path):
    data = DataDir(tmp_path / "new")
    with data.locked(), pytest.raises(ConfigurationError, match="another server"):
        restore(saved[0], data)


def test_a_target_that_can_not_be_written_is_named(saved, tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        back_up(DataDir(saved[0].parent / "data"), tmp_path / "missing" / "b.tar")


def test_what_a_killed_backup_has_left_is_removed_by_the_next(tmp_path):
    data, target = tmp_path / "data", tmp_path / "out" / "backup.tar.gz"
    with running(data):
        pass
    for number in range(8):
        (data / "artifacts" / f"large-{number}").write_bytes(os.urandom(16 * 1024 * 1024))
    target.parent.mkdir()
    begun = [sys.executable, "-m", "openlaunch.cli", "backup", str(target), "--data-dir", str(data)]
    with subprocess.Popen(begun, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: len(list(target.parent.iterdir())) == 2)
        process.kill()
    left = list(target.parent.iterdir())
    assert len(left) == 2
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in left)
    other = target.with_name("other.tar")
    done = command("backup", other, "--data-dir", data)
    assert done.returncode == 0, done.stderr
    assert list(target.parent.iterdir()) == [other]
    assert command("backup", target, "--data-dir", data).returncode == 0
