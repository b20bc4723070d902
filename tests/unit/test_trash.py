"""Folders that others have written to: deleted whatever they hold, and nothing beside them."""

import os
import time
from pathlib import Path

import pytest

from openlaunch.trash import PREFIX, delete, discard, discard_leftovers

DEPTH = 1500
"""Far more levels than a process may have descriptors or stack frames for, and than fit into one path."""


def deep(folder: Path) -> Path:
    """Make a folder of this depth, with a file at its end."""
    folder.mkdir()
    here = os.open(folder, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    return folder


def until_empty(folder: Path) -> None:
    deadline = time.monotonic() + 20
    while list(folder.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_can_not_be_renamed_stays(tmp_path, caplog):
    (tmp_path / "file").write_text("x")
    discard(tmp_path / "file" / "below")
    assert "below can't be deleted: Not a directory" in caplog.text


def test_a_tree_is_deleted(tmp_path):
    (tmp_path / "top" / "a" / "b").mkdir(parents=True)
    (tmp_path / "top" / "a" / "b" / "file").write_text("x")
    (tmp_path / "top" / "c").mkdir()
    delete(tmp_path / "top")
    assert list(tmp_path.iterdir()) == []


def test_a_deep_tree_is_deleted(tmp_path):
    delete(deep(tmp_path / "top"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", ["top", "top/link", "top/a/link"])
def test_a_link_is_deleted_and_not_followed(tmp_path, link):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("kept")
    (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / link).symlink_to(kept)
    delete(tmp_path / "top")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "file").read_text() == "kept"


def test_folders_without_permissions_are_deleted(tmp_path):
    inner = tmp_path / "parent" / "top" / "a" / "b"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent, inner.parent.parent):
        folder.chmod(0)
    tmp_path.chmod(0o777)
    (tmp_path / "parent").chmod(0o777)
    as_nobody(tmp_path / "parent", lambda: delete(tmp_path / "parent" / "top"))
    assert list((tmp_path / "parent").iterdir()) == []


def test_the_place_is_free_at_once_and_the_folder_goes(tmp_path):
    (tmp_path / "top" / "a").mkdir(parents=True)
    discard(tmp_path / "top")
    assert not (tmp_path / "top").exists()
    until_empty(tmp_path)


def test_what_an_earlier_process_left_is_deleted(tmp_path):
    (tmp_path / f"{PREFIX}left" / "a").mkdir(parents=True)
    discard_leftovers(tmp_path)
    until_empty(tmp_path)


def test_nothing_happens_where_there_is_no_folder(tmp_path):
    discard(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def as_nobody(folder: Path, function) -> None:
    """Call the function as an ordinary user who owns the folder with all in it."""
    if os.geteuid() != 0:
        function()
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534)
    for path in folder.parents:
        if path.stat().st_mode & 0o005 != 0o005 and path.is_relative_to("/tmp"):
            path.chmod(0o755)
    if (pid := os.fork()) == 0:
        code = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            function()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
