"""What is the folder's own in the artifacts."""

import asyncio
import time
from pathlib import Path

import pytest

from openlaunch.artifacts.folder import FolderArtifacts
from openlaunch.errors import Unavailable


def test_a_folder_that_can_not_be_used_is_unavailable(tmp_path: Path) -> None:
    async def test() -> None:
        artifacts = FolderArtifacts(tmp_path / "artifacts")
        (tmp_path / "artifacts").rmdir()
        (tmp_path / "artifacts").write_text("a file in the folder's place")
        for use in (artifacts.put("k", b"x"), artifacts.get("k"), artifacts.delete("k")):
            with pytest.raises(Unavailable, match="'k' can't be read or written") as failed:
                await use
            assert failed.value.code == "artifacts_unavailable"

    asyncio.run(test())


def test_what_a_killed_upload_has_left_can_be_deleted(tmp_path: Path) -> None:
    async def test() -> None:
        artifacts = FolderArtifacts(tmp_path / "artifacts")
        await artifacts.put("a/one", b"12345")
        (tmp_path / "artifacts" / "a" / "two#1").write_bytes(b"half")
        assert [each.key async for page in artifacts.pages("a") for each in page] == ["a/one"]
        assert await artifacts.delete_partial(time.time() - 60) == 0
        assert await artifacts.delete_partial(time.time() + 60) == 1
        assert await artifacts.delete_partial(time.time() + 60) == 0
        assert await artifacts.get("a/one") == b"12345"

    asyncio.run(test())
