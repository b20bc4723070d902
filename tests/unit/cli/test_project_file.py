"""A project's file that is none, or not to be read, is said in one sentence, and ends at once."""

import os
from pathlib import Path

import pytest

from openlaunch.cli.project_file import MAX_BYTES, read_project
from openlaunch.errors import ConfigurationError

CONTENTS = {
    "no TOML": (b"a = [", "can't be read: Invalid value"),
    "no text": (b"\xff\xfe", "can't be read: .*decode byte"),
    "nested deep": (b"a = " + b"[" * 100_000, "nested too deep"),
    "large": (b"#" * (MAX_BYTES + 1), "over 1,048,576 bytes"),
}


@pytest.mark.parametrize("name", ["openlaunch.toml", "pyproject.toml"])
@pytest.mark.parametrize("content", CONTENTS)
def test_what_can_not_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    data, text = CONTENTS[content]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigurationError, match=rf"^{name} .*{text}"):
        read_project(None)


@pytest.mark.parametrize("name", ["openlaunch.toml", "pyproject.toml"])
def test_a_pipe_or_a_device_in_a_folder_is_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigurationError, match=r"there is no openlaunch\.toml"):
        read_project(None)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(ConfigurationError, match=r"there is no openlaunch\.toml"):
        read_project(None)
    with pytest.raises(ConfigurationError, match="over 1,048,576 bytes"):
        read_project(Path("/dev/zero"))
